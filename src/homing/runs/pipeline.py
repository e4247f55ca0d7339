"""A recipe run stage after stage, with every finished stage kept and reused, and nothing redone that doesn't depend on a change."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from homing.arguments import demand, demand_path
from homing.data import Splits
from homing.digests import file_digest
from homing.encoders.directory import weights_digest
from homing.encoders.memory import peak
from homing.errors import SettingError
from homing.formats.evaluation import read_evaluation
from homing.manifest import versions, write_json
from homing.progress import Say
from homing.runs import stages
from homing.runs.dependence import after, changes, depends
from homing.runs.recipe import Recipe
from homing.runs.rundir import artefact, how_to_go_on, locked, read_manifest, trains
from homing.runs.runlog import logged
from homing.runs.work import Work
from homing.terminal import verdict_table
from homing.training.teacher import demand_teacher
from homing.verdicts.slices import columns_of
from homing.verdicts.verdict import Verdict


class Run:
    """A run directory, and the work that is still to be done in it."""

    def __init__(self, directory: Path, recipe: Recipe, say: Say) -> None:
        self.manifest: dict[str, Any] = read_manifest(directory) or {"stages": {}}
        self.began = False  # whether the directory is this recipe's by now
        _demand_own(directory, self.manifest, Path(recipe.data))
        self.work = Work(directory, recipe, say)

    def todo(self, needs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """The stages to do, with the reason; `needs`: what each depends on now."""
        reasons: dict[str, str] = {}
        for stage, now in needs.items():
            done = self.manifest["stages"].get(stage)
            if done is None:
                reasons[stage] = "not done yet"
            elif not (self.work.directory / artefact(stage)).exists():
                reasons[stage] = f"{artefact(stage)} is missing"
            elif done["depends"] != now:
                reasons[stage] = changes(done["depends"], now)
            elif stage != "report" and self._digest(stage) != done["digest"]:  # the report may be written anew, and nothing reads it
                reasons[stage] = f"again: {artefact(stage)} is not as it was left"
            elif again := [before for before in after(stage, self.work.stages) if before in reasons]:
                reasons[stage] = f"after {again[0]}"
        return reasons

    def go(self) -> Verdict:
        """Do what is to be done, in order; the verdict."""
        work, needs = self.work, depends(self.work)
        todo = self.todo(needs)
        if "train" in todo and work.general is not None:
            work.say(f"  general: {len(work.general.qrels.queries):,} queries outside the domain")
        if names := work.recipe.evaluating.slice_by:
            columns_of((work.loaded if "split" in todo else work.splits).queries, names)
        if {"check", "split"} & todo.keys():
            _ = work.loaded  # data that cannot be read leaves the run as it was
        self._demand_answers(todo)
        work.directory.mkdir(parents=True, exist_ok=True)
        self.began = True
        work.recipe.write(work.directory / "recipe.toml")
        self._describe(needs["split"]["data"])
        width = max(9, *map(len, work.stages))
        for stage in work.stages:
            work.say(f"{stage:>{width}}  {todo.get(stage, 'kept')}")
        for stage in work.stages:
            if stage in todo:
                self._do(stage, needs[stage])
        return stages.verdict(work)

    def _demand_answers(self, todo: Mapping[str, str]) -> None:
        """Raise for a teacher or a deployed model that cannot answer, before the recipe that is there gives way to this one.

        A server that this run knows already is not asked: what it answered is kept, and it may be gone.
        """
        work, known = self.work, self.manifest.get("inputs", {})
        if work.recipe.teacher is not None and any(trains(stage) for stage in todo):
            data = work.loaded if "split" in todo else work.splits
            data = data.train if isinstance(data, Splits) else data
            demand_teacher(work.recipe.teacher, data, ask=known.get("teacher") != work.recipe.teacher)
        if work.deployed is not None and "evaluate" in todo and known.get("baseline") != work.recipe.baseline:
            _ = work.deployed.dimension

    def _do(self, stage: str, needs: dict[str, Any]) -> None:
        self._forget(stage)
        self.work.say(f"\n== {stage}")
        start, began = time.perf_counter(), time.strftime("%Y-%m-%dT%H:%M:%S%z")
        stages.do(stage, self.work, self.manifest)
        self.manifest["stages"][stage] = {
            "depends": needs,
            "began": began,
            "seconds": round(time.perf_counter() - start, 2),
            "peak_memory_bytes": peak(),
            "digest": self._digest(stage),
        }
        self._keep()

    def _digest(self, stage: str) -> str:
        """A digest of what a stage left; of a model, of its weights and conventions: its card is written again with the verdict."""
        path = self.work.directory / artefact(stage)
        return weights_digest(path) if stage == "merge" else file_digest(path)

    def _describe(self, data: dict[str, str]) -> None:
        """Say in the manifest what this run is made of."""
        recipe, base = self.work.recipe, self.work.base
        self.manifest.update(
            plan=list(self.work.stages),
            inputs={name: value for name in ("model", "judgments", *Recipe.SOURCES) if (value := getattr(recipe, name)) not in (None, ())},
            digests={"data": data, "model": base.weights_digest, **{name: value for name, value in self.work.beside.items() if value}},
            versions=versions(),
            seeds={name: asdict(getattr(recipe, name))["seed"] for name in Recipe.SECTIONS if hasattr(getattr(recipe, name), "seed")},
            device=str(base.device),
            dtype=str(base.dtype),
        )
        self._keep()

    def _keep(self) -> None:
        write_json(self.work.directory / "manifest.json", self.manifest)

    def _forget(self, stage: str) -> None:
        """A stage that is begun again is no longer done, whatever happens to it."""
        if self.manifest["stages"].pop(stage, None) is not None:
            self._keep()


def _demand_own(directory: Path, manifest: Mapping[str, Any], data: Path) -> None:
    """Raise SettingError where stages are finished there of other data: neither the file that they were of nor its content."""
    was, digests = manifest.get("inputs", {}).get("data"), manifest.get("digests", {}).get("data")
    known = digests.get("data") if isinstance(digests, Mapping) else None
    if not manifest["stages"] or was is None or was == str(data.absolute()) or (data.exists() and file_digest(data) == known):
        return
    raise SettingError(
        "the directory holds a run of other data, whose finished stages would be lost", where=str(directory),
        got=str(data), expected=f"{was} ({', '.join(manifest['stages'])} done)",
        remedy="Give this data another --out, or remove the directory if the run there may go.",
    )  # fmt: skip


def run(recipe: Recipe, out: str | Path, say: Say = print) -> Verdict:
    """Run a recipe in the directory `out`, going on from what is finished there; the verdict, which is also said.

    Everything printed is copied to run.log. On an error, what is finished and how to go on is said before the error leaves.
    """
    demand(Recipe, recipe=recipe)
    demand_path(out=out)
    directory = Path(out)
    with locked(directory), logged(directory / "run.log"):
        work = Run(directory, recipe, say)
        try:
            verdict = work.go()
        except (Exception, KeyboardInterrupt):
            if work.began:
                say("\n" + how_to_go_on(directory))
            raise
        evaluations = read_evaluation(directory / "evaluation", work.work.splits)
        say("\n" + verdict_table(evaluations, verdict, work.work.recipe.reporting.language))
        say(f"\nreport: {directory / 'report.html'}\nmodel:  {directory / 'model'}")
    return verdict
