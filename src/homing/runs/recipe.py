"""A recipe: everything that decides a run, as recipe.toml keeps it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, cast

import tomli_w

from homing.arguments import demand, demand_path
from homing.errors import FormatError, SettingError
from homing.manifest import replaced
from homing.settings import Comparing, Encoding, Evaluating, Mining, Reporting, Splitting, Training


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run: the data, the model, and every setting.

    `corpus`: a file of further documents. `judgments`: files of marks on audited negatives, which the training split obeys.
    `teacher`: a better model's directory or server, a cross-encoder's, or scores. `general`: judgments outside the domain, or the
    name of a set. `test` may be a run or a split dataset, whose test side is then frozen; without `dev`, dev is dealt
    from train. `baseline`: the model that is deployed. `start`: the adapter that training goes on from. `instructions`: a file of tasks
    to try on the base, one a line.

    Raises SettingError for a source that is no path or name, and for settings of another kind.
    """

    data: str
    model: str
    dev: str | None = None
    test: str | None = None
    corpus: str | None = None
    format: str | None = None
    teacher: str | None = None
    general: str | None = None
    judgments: tuple[str, ...] = ()
    baseline: str | None = None
    start: str | None = None
    instructions: str | None = None
    encoding: Encoding = field(default_factory=Encoding)
    splitting: Splitting = field(default_factory=Splitting)
    mining: Mining = field(default_factory=Mining)
    training: Training = field(default_factory=Training)
    evaluating: Evaluating = field(default_factory=Evaluating)
    comparing: Comparing = field(default_factory=Comparing)
    reporting: Reporting = field(default_factory=Reporting)

    SECTIONS: ClassVar[tuple[str, ...]] = ("encoding", "splitting", "mining", "training", "evaluating", "comparing", "reporting")
    SOURCES: ClassVar[tuple[str, ...]] = ("data", "dev", "test", "corpus", "teacher", "general", "baseline", "start", "instructions")

    def __post_init__(self) -> None:
        demand_path(data=self.data, model=self.model)
        demand_path(**{name: value for name in self.SOURCES if (value := getattr(self, name)) is not None})
        demand(tuple | list, judgments=self.judgments)
        demand_path(**{f"judgments[{place}]": each for place, each in enumerate(self.judgments)})
        for each in fields(self):
            if each.name in self.SECTIONS:
                demand(cast(type, each.default_factory), **{each.name: getattr(self, each.name)})

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read recipe.toml. Raises FormatError for what isn't one, SettingError for a setting that there isn't."""
        demand_path(path=path)
        path = Path(path)
        try:
            said = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FormatError(
                "the recipe cannot be read", where=str(path), got=str(error), remedy="Give a recipe.toml that a run wrote."
            ) from None
        kinds: dict[str, Any] = {each.name: each.default_factory for each in fields(cls) if each.name in cls.SECTIONS}
        plain = {each.name for each in fields(cls)} - set(cls.SECTIONS)
        for name in said:
            if name not in plain | set(kinds):
                raise SettingError(
                    "the recipe names an unknown setting", where=str(path), got=name, expected=", ".join(sorted(plain | set(kinds)))
                )
        for name in ("data", "model"):
            if name not in said:
                raise SettingError("the recipe lacks a setting", where=str(path), expected=name)
        if not isinstance(said.get("judgments", []), list):
            raise SettingError("judgments are a list of files", where=str(path), got=repr(said["judgments"]), expected='["marked.csv"]')
        said["judgments"] = tuple(said.get("judgments", ()))
        sections: dict[str, Any] = {}
        for name, kind in kinds.items():
            if not isinstance(said.get(name, {}), dict):
                raise SettingError(
                    f"{name} is no table", where=str(path), got=repr(said[name]), expected=f"[{name}] with its settings below"
                )
            known = {each.name for each in fields(kind)}
            unknown = set(said.get(name, {})) - known
            if unknown:
                raise SettingError(
                    f"[{name}] names an unknown setting", where=str(path), got=sorted(unknown)[0], expected=", ".join(sorted(known))
                )
            sections[name] = kind(**said.get(name, {}))
        return cls(**{name: value for name, value in said.items() if name in plain}, **sections)

    def write(self, path: str | Path) -> None:
        """Write recipe.toml; a setting that is None is left out."""
        with replaced(Path(path)) as file:
            file.write(tomli_w.dumps(_without_none(asdict(self))))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _without_none(value) if isinstance(value, Mapping) else value for name, value in values.items() if value is not None}
