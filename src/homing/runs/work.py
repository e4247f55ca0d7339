"""What the stages of a run have in common: the recipe with nothing left open, and its base, data and rows, each opened once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from homing.data import Dataset, Mined, Splits
from homing.digests import file_digest
from homing.encoders.adapter import Adapter
from homing.encoders.model import Model
from homing.encoders.opening import is_address, open_encoder
from homing.errors import FormatError, SettingError
from homing.formats.judgments import read as read_judgments
from homing.formats.mined import read_mined
from homing.general import SETS
from homing.instructing import read_tasks
from homing.loading import dataset_directory, load, read_dataset
from homing.measures.formulas import parse_measures
from homing.progress import Say
from homing.protocols import Encoder
from homing.runs.opening import opened
from homing.runs.recipe import Recipe
from homing.runs.rundir import SHARES, plan, share_of
from homing.settings import Encoding
from homing.training.teacher import kind_of
from homing.training.tracking import demand_known
from homing.training.train import resolved


@dataclass
class Work:
    """A run's directory, its recipe as resolved, and who is told what happens. What is read from disk is read when it is first wanted."""

    directory: Path
    recipe: Recipe
    say: Say

    def __post_init__(self) -> None:
        self.recipe = _located(self.recipe)
        parse_measures(self.recipe.evaluating.measures)
        if self.recipe.instructions is not None:
            read_tasks(Path(self.recipe.instructions))
        demand_known(self.recipe.training.report_to.split(","))
        base = self.base
        encoding = Encoding(base.prompts["query"], base.prompts["document"], None, self.recipe.encoding.pooling, base.max_length)
        self.recipe = replace(self.recipe, encoding=encoding, training=resolved(base, self.recipe.training, self.start))

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this run, in their order."""
        comparing = self.recipe.comparing
        return plan(self.seeds[1:], SHARES if comparing.learning_curve else (), anew=comparing.anew and self.recipe.start is not None)

    @property
    def further(self) -> tuple[float, ...]:
        """For each training beside the run's own, the share of the judgments that it has."""
        return tuple(share_of(stage) for stage in self.stages if " " in stage)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that are trained under, the first being that of the model that is handed over."""
        return tuple(self.recipe.training.seed + number for number in range(self.recipe.comparing.seeds))

    @cached_property
    def base(self) -> Model:
        """The model that everything begins with, under the run's own prompts."""
        return Model(self.recipe.model, **asdict(self.recipe.encoding), name="base")

    @cached_property
    def start(self) -> Adapter | None:
        """What training goes on from, where it doesn't begin with the base."""
        return Adapter(Path(self.recipe.start)) if self.recipe.start is not None else None

    @cached_property
    def deployed(self) -> Encoder | None:
        """The model that is in use now, under its own conventions: a directory, a hub name, a server."""
        if self.recipe.baseline is None:
            return None
        base = self.base
        return open_encoder(self.recipe.baseline, device=base.device, dtype=base.dtype, name="deployed", say=self.say)

    @cached_property
    def loaded(self) -> Dataset | Splits:
        """The data, or its splits where it comes split; with a frozen test, splits as they will be."""
        recipe = self.recipe
        return opened(recipe.data, recipe.dev, recipe.test, recipe.format, recipe.splitting, recipe.corpus)

    @cached_property
    def splits(self) -> Splits:
        """Train, dev and test, as the split stage left them."""
        return read_dataset(self.directory / "dataset")

    @cached_property
    def mined(self) -> Mined:
        """The training rows, as the mine stage left them."""
        return read_mined(self.directory / "mined", self.splits.train)

    @cached_property
    def general(self) -> Dataset | None:
        """Judgments outside the domain that the user gave, which training looks at."""
        source = self.recipe.general
        return load(source) if source is not None and source not in SETS else None

    @cached_property
    def beside(self) -> dict[str, str | None]:
        """Digests of what training is given beside its rows, hashed once: a teacher may be large."""
        sources = {"teacher": self.recipe.teacher, "general": self.recipe.general if self.recipe.general not in SETS else None}
        digests = {name: source if source is None or is_address(source) else file_digest(Path(source)) for name, source in sources.items()}
        return digests | ({"start": self.start.digest} if self.start is not None else {})

    @cached_property
    def data(self) -> dict[str, str]:
        """Digests of the data as it was given, by name."""
        return {
            name: file_digest(Path(value))
            for name in ("data", "dev", "test", "corpus")
            if (value := getattr(self.recipe, name)) is not None
        }

    def forget(self, name: str) -> None:
        """What was opened is opened anew when it is next wanted."""
        self.__dict__.pop(name, None)


def _located(recipe: Recipe) -> Recipe:
    """The recipe with every path absolute, and a run in the place of one of its artefacts taken for that artefact.

    Raises FormatError for a path that is not there, SettingError for a training that goes on from what it cannot.
    """
    paths: dict[str, Any] = {
        name: str(Path(value).absolute())
        for name in Recipe.SOURCES
        if (value := getattr(recipe, name)) is not None and not (name == "general" and value in SETS) and _is_path(name, value)
    }
    flags = {"data": "DATA", "start": "--from"}
    for name, path in paths.items():
        if not Path(path).exists():
            remedy = f"Check the path given as {flags.get(name, f'--{name}')}."
            expected = f"a path, or {', '.join(SETS)}" if name == "general" else ""
            raise FormatError("there is no such file or directory", where=path, expected=expected, remedy=remedy)
    for name, inside in (("start", "adapter"), ("baseline", "model")):
        if name in paths and (Path(paths[name]) / "manifest.json").is_file() and (Path(paths[name]) / inside).is_dir():
            paths[name] = str(Path(paths[name]) / inside)
    if "test" in paths and (frozen := dataset_directory(paths["test"])) is not None:
        paths["test"] = str(frozen)
    for path in recipe.judgments:
        read_judgments(path)
    paths["judgments"] = tuple(str(Path(path).absolute()) for path in recipe.judgments)
    if "teacher" in paths:
        kind_of(paths["teacher"])
    if "start" in paths and recipe.training.train == "queries" and Adapter(Path(paths["start"])).side != "queries":
        raise SettingError(
            "training of queries alone cannot go on from an adapter of both sides", where=paths["start"],
            remedy="Leave --from out: its documents would no longer be the base's.",
        )  # fmt: skip
    source = str(Path(recipe.model).absolute()) if Path(recipe.model).is_dir() else recipe.model
    return replace(recipe, **paths, model=source)


def _is_path(name: str, value: str) -> bool:
    """Whether this is a path: a baseline may be the name of a model on a hub, a teacher the address of a server."""
    if name == "teacher":
        return not is_address(value)
    return name != "baseline" or Path(value).exists() or value.count("/") != 1 or value.startswith((".", "/", "~"))
