"""A recipe run stage after stage, with every finished stage kept and reused, and nothing redone that doesn't depend on a change."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from homing.checking import check
from homing.data import Dataset, Mined, Splits
from homing.encoders.adapter import Adapter
from homing.encoders.kept import Kept
from homing.encoders.model import Model
from homing.encoders.pair import open_model
from homing.encoders.teacher import kind_of, open_teacher
from homing.errors import FormatError
from homing.estimating import demand_room, estimate
from homing.evaluating import evaluate, read_evaluation, save_evaluation
from homing.formats.judgments import read as read_judgments
from homing.judgments import obey
from homing.loading import load, load_splits, read_dataset, save_dataset
from homing.manifest import file_digest, key, replace_directory, versions, write_json
from homing.merging import merge
from homing.mining import mine, read_mined, save_mined
from homing.recipe import Recipe
from homing.reporting import report
from homing.rundir import ARTEFACTS, STAGES, how_to_go_on, locked, read_manifest
from homing.settings import Encoding
from homing.splitting import split
from homing.terminal import logged, verdict_table
from homing.training import deciding, resolved, train
from homing.verdicts import Verdict, compare

AFTER: dict[str, tuple[str, ...]] = {
    "check": (), "split": (), "mine": ("split",), "train": ("split", "mine"), "merge": ("train",), "evaluate": ("split", "merge"),
    "report": ("train", "evaluate"),
}  # fmt: skip
Say = Callable[[str], None]


class Run:
    """A run directory, and the work that is still to be done in it."""

    def __init__(self, directory: Path, recipe: Recipe, say: Say) -> None:
        self.directory, self.say = directory, say
        self.recipe = self._resolve(recipe)
        self.manifest: dict[str, Any] = read_manifest(directory) or {"stages": {}}

    def _resolve(self, recipe: Recipe) -> Recipe:
        """Paths made absolute, and what was left open chosen: what the recipe says is what is done."""
        paths: dict[str, Any] = {
            name: str(Path(value).absolute())
            for name in ("data", "dev", "test", "teacher", "general")
            if (value := getattr(recipe, name)) is not None
        }
        for name, path in paths.items():
            if not Path(path).exists():
                raise FormatError("there is no such file or directory", where=path, remedy=f"Check the path given as {name.upper()}.")
        for path in recipe.judgments:
            read_judgments(path)
        paths["judgments"] = tuple(str(Path(path).absolute()) for path in recipe.judgments)
        if "teacher" in paths:
            kind_of(paths["teacher"])
        source = str(Path(recipe.model).absolute()) if Path(recipe.model).is_dir() else recipe.model
        recipe = replace(recipe, **paths, model=source)
        self._recipe = recipe

        base = self.base
        encoding = Encoding(base.prompts["query"], base.prompts["document"], None, recipe.encoding.pooling, base.max_length)
        return replace(recipe, encoding=encoding, training=resolved(base, recipe.training))

    @cached_property
    def base(self) -> Model:

        return Model(self._recipe.model, **asdict(self._recipe.encoding), name="base")

    @cached_property
    def splits(self) -> Splits:

        return read_dataset(self.directory / "dataset")

    @cached_property
    def mined(self) -> Mined:

        return read_mined(self.directory / "mined", self.splits.train)

    @cached_property
    def loaded(self) -> Dataset | Splits:

        recipe = self.recipe
        return load_splits(recipe.data, recipe.dev, recipe.test, format=recipe.format)

    @cached_property
    def general(self) -> Dataset | None:

        return load(self.recipe.general) if self.recipe.general is not None else None

    @cached_property
    def beside(self) -> dict[str, str | None]:
        """Digests of what training is given beside its rows, hashed once: a teacher may be large."""
        recipe = self.recipe
        return {
            name: None if source is None else file_digest(Path(source))
            for name, source in (("teacher", recipe.teacher), ("general", recipe.general))
        }

    def depends(self) -> dict[str, dict[str, Any]]:
        """What each stage's result depends on, by name: equal values, equal result."""
        recipe = self.recipe
        data = {
            "data": {name: file_digest(Path(value)) for name in ("data", "dev", "test") if (value := getattr(recipe, name)) is not None},
            "format": recipe.format,
        }
        base = {"model": self.base.digest}
        own: dict[str, dict[str, Any]] = {
            "check": {**data, **base},
            "split": {**data, "splitting": asdict(recipe.splitting)},
            "mine": {"mining": asdict(recipe.mining), "judgments": [file_digest(Path(path)) for path in recipe.judgments]},
            "train": {**base, "training": deciding(recipe.training), **self.beside},
            "merge": {},
            "evaluate": {**base, "evaluating": asdict(recipe.evaluating)},
            "report": {},
        }
        found: dict[str, dict[str, Any]] = {}
        for stage in STAGES:
            found[stage] = {**own[stage], **{f"stage {before}": key(found[before]) for before in AFTER[stage]}}
        return found

    def todo(self) -> dict[str, str]:
        """The stages to do, with the reason."""
        reasons: dict[str, str] = {}
        for stage, depends in self.depends().items():
            done = self.manifest["stages"].get(stage)
            if done is None:
                reasons[stage] = "not done yet"
            elif not (self.directory / ARTEFACTS[stage]).exists():
                reasons[stage] = f"{ARTEFACTS[stage]} is missing"
            elif done["depends"] != depends:
                reasons[stage] = _changes(done["depends"], depends)
            elif again := [before for before in AFTER[stage] if before in reasons]:
                reasons[stage] = f"after {again[0]}"
        return reasons

    def go(self) -> Verdict:
        """Do what is to be done, in order; the verdict."""
        todo = self.todo()
        if "train" in todo and self.general is not None:
            self.say(f"  general: {len(self.general.qrels.queries):,} queries outside the domain")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.recipe.write(self.directory / "recipe.toml")
        self.manifest.update(
            inputs={
                name: value
                for name in ("data", "dev", "test", "model", "teacher", "general", "judgments")
                if (value := getattr(self.recipe, name)) not in (None, ())
            },
            digests={
                "data": self.depends()["split"]["data"],
                "model": self.base.weights_digest,
                **{name: value for name, value in self.beside.items() if value},
            },
            versions=versions(),
            seeds={
                name: asdict(getattr(self.recipe, name))["seed"] for name in Recipe.SECTIONS if hasattr(getattr(self.recipe, name), "seed")
            },
            device=str(self.base.device),
            dtype=str(self.base.dtype),
        )
        self._keep()
        for stage in STAGES:
            self.say(f"{stage:>9}  {todo.get(stage, 'kept')}")
        depends = self.depends()
        for stage in STAGES:
            if stage in todo:
                self._forget(stage)
                self.say(f"\n== {stage}")
                start, began = time.perf_counter(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
                getattr(self, f"_{stage}")()
                self.manifest["stages"][stage] = {
                    "depends": depends[stage],
                    "began": began,
                    "seconds": round(time.perf_counter() - start, 2),
                    "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                    "digest": file_digest(self.directory / ARTEFACTS[stage]),
                }
                self._keep()
        return self.verdict()

    def _keep(self) -> None:
        write_json(self.directory / "manifest.json", self.manifest)

    def _forget(self, stage: str) -> None:
        """A stage that is begun again is no longer done, whatever happens to it."""
        if self.manifest["stages"].pop(stage, None) is not None:
            self._keep()

    def _check(self) -> None:

        recipe = self.recipe
        found = check(self.loaded, self.base)
        self.say(str(found))
        self.say(f"  prompts: query {self.base.prompts['query']!r}, document {self.base.prompts['document']!r}")
        needed = estimate(self.base, self.loaded, recipe.splitting, recipe.mining, recipe.training)
        self.say(f"  the run will take {needed}")
        demand_room(needed, self.base, self.directory)
        write_json(self.directory / "check.json", {**found.to_dict(), "estimate": asdict(needed), "prompts": self.base.prompts})

    def _split(self) -> None:

        splits = self.loaded if isinstance(self.loaded, Splits) else split(self.loaded, self.recipe.splitting)
        with replace_directory(self.directory / "dataset") as fresh:
            save_dataset(splits, fresh)
        self.__dict__.pop("splits", None)
        for name in ("train", "dev", "test"):
            qrels = getattr(splits, name).qrels
            self.say(
                f"  {name:5} {len(qrels.queries):>7,} queries  {len(qrels):>9,} judgments  {int((qrels.relevance > 0).sum()):>8,} relevant"
            )
        if splits.removed:
            self.say(f"  {len(splits.removed):,} queries were removed: they would have leaked between the splits")

    def _mine(self) -> None:

        splits, obeyed = obey([each for path in self.recipe.judgments for each in read_judgments(path)], self.splits)
        if self.recipe.judgments:
            self.say(f"  {obeyed}")
        mined = mine(splits.train, self.recipe.mining)
        with replace_directory(self.directory / "mined") as fresh:
            save_mined(mined, fresh)
        self.__dict__.pop("mined", None)
        there = mined.negative >= 0
        kinds = ", ".join(f"{int(((mined.kind == index) & there).sum()):,} {name}" for index, name in enumerate(mined.KINDS))
        self.say(f"  {len(mined):,} rows, {int(there.sum()):,} negatives ({kinds})")
        short = int((there.sum(axis=1) < self.recipe.mining.negatives).sum())
        if short:
            self.say(f"  {short:,} rows have fewer than {self.recipe.mining.negatives} negatives: their lists hold no more")

    def _train(self) -> None:

        training = self.recipe.training
        self.say(
            f"  {'all weights' if training.tuning == 'full' else f'{training.tuning}, rank {training.rank}'}, "
            f"learning rate {training.learning_rate:g}, {len(self.mined):,} rows, "
            + (f"{training.minutes:g} minutes" if training.minutes is not None else f"{training.epochs:g} epochs")
        )
        logs, teacher = self.directory / "training", None
        if self.recipe.teacher is not None:
            fixed = training.train == "queries"
            teacher = open_teacher(
                self.recipe.teacher, self.mined, logs / "teacher", fixed_documents=fixed, say=lambda line: self.say(f"  {line}")
            )
        train(
            self.base, self.mined, self.splits.dev, training, out=self.directory / "adapter", logs=logs, teacher=teacher,
            general=self.general, say=lambda line: self.say(f"  {line}"),
        )  # fmt: skip

    def _merge(self) -> None:

        test = self.splits.test
        texts = [test.queries.texts[query] for query in test.qrels.queries[:16].tolist()]
        texts += [test.corpus.texts[document] for document in test.qrels.document[:16].tolist()]
        adapter = Adapter(self.directory / "adapter")
        merge(self.base, adapter, out=self.directory / "model", texts=texts)
        if adapter.scale == 0:
            self.say("  dev keeps the base: the model's directory holds the base's own weights")
        else:
            self.say("  adapter, merged and reloaded weights give the same embeddings, and not the base's")
        if adapter.side == "queries":
            self.say(f"  it encodes queries alone: documents, and an index of them, stay those of {self.base.source}")

    def _evaluate(self) -> None:

        tuned = open_model(self.directory / "model", documents=self.base, device=self.base.device, dtype=self.base.dtype, name="tuned")
        settings = self.recipe.evaluating
        found = evaluate([Kept(self.base), Kept(tuned)], self.splits.dev, self.splits.test, settings)
        save_evaluation(found, compare(found, settings.resamples, settings.seed), self.directory / "evaluation")

    def _report(self) -> None:

        found = read_evaluation(self.directory / "evaluation", self.splits)
        details = {
            f"{section}.{name}": str(value) for section in Recipe.SECTIONS for name, value in asdict(getattr(self.recipe, section)).items()
        }
        details |= self.manifest["versions"] | {f"{name} digest": str(value) for name, value in self.manifest["digests"].items()}
        details |= {"split by": self.splits.by, "queries removed by the split": str(len(self.splits.removed))}
        report(*found, out=self.directory / "report.html", training=self.directory / "training", details=details, verdict=self.verdict())

    def verdict(self) -> Verdict:
        """The verdict on the evaluation that is there."""
        settings = self.recipe.evaluating
        found = compare(read_evaluation(self.directory / "evaluation", self.splits), settings.resamples, settings.seed)
        if Adapter(self.directory / "adapter").scale == 0:
            kept = "On dev nothing that was learned beat the base by more than the standard error: the model's directory holds the base."
            found = replace(found, notes=(kept, *found.notes))
        shared = ("The split lets positives be shared between train and test, as was asked for: new questions to known answers.",)
        return replace(found, notes=(*found.notes, *shared)) if self.splits.by == "query" else found


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed between two `depends`, in words."""
    changed = [name for name in now if before.get(name) != now[name]]
    stages = [name.removeprefix("stage ") for name in changed if name.startswith("stage ")]
    words = []
    for name in changed:
        if isinstance(now[name], Mapping) and isinstance(before.get(name), Mapping):
            words += [
                f"{each} {before[name].get(each)} -> {now[name][each]}" for each in now[name] if before[name].get(each) != now[name][each]
            ]
        elif not name.startswith("stage "):
            words.append(f"{name} changed")
    if words:
        return "again: " + ", ".join(words)[:200]
    return f"again: after {stages[0]}" if stages else "again"


def run(recipe: Recipe, out: str | Path, say: Say = print) -> Verdict:
    """Run a recipe in the directory `out`, going on from what is finished there; the verdict, which is also said.

    Everything printed is copied to run.log. On an error, what is finished and how to go on is said before the error leaves.
    """
    directory = Path(out)
    with locked(directory), logged(directory / "run.log"):
        try:
            work = Run(directory, recipe, say)
            verdict = work.go()
        except (Exception, KeyboardInterrupt):
            if (directory / "recipe.toml").is_file():
                say("\n" + how_to_go_on(directory))
            raise
        evaluations = read_evaluation(directory / "evaluation", work.splits)
        say("\n" + verdict_table(evaluations, verdict))
        say(f"\nreport: {directory / 'report.html'}\nmodel:  {directory / 'model'}")
    return verdict
