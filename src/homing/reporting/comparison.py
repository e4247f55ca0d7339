"""Several runs on one page: what each reached, against its own base and against the first of them, and what was set differently."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from homing.errors import InputError, SettingError
from homing.figures.canvas import Line, series
from homing.figures.history import history
from homing.measures.evaluations import Evaluation, Interval, same_test
from homing.reporting import charts, phrases
from homing.reporting.curves import line, records
from homing.reporting.export import export
from homing.reporting.figure import Figure
from homing.reporting.header import Whisker, own, reach, whisker
from homing.reporting.language import Phrase
from homing.reporting.models import Model, base_and_tuned, shown
from homing.reporting.movers import movers
from homing.reporting.numbers import NONE, between, duration, number, signed
from homing.reporting.page import filled, write
from homing.reporting.tables import Cell, Row, cells, clear
from homing.settings import Reporting
from homing.verdicts.differences import Comparison as Paired
from homing.verdicts.differences import Difference, adjusted, ranks
from homing.verdicts.verdict import Verdict

MEASURES = ("nDCG@10", "R@10", "R@100", "RR@10", "AP", "F1")
RESAMPLES, SEED = 1000, 42  # as of a verdict
UNTOLD = ("data", "dev", "test")
"""Settings that are shown by their digest alone, if at all."""


@dataclass(frozen=True, eq=False)
class Compared:
    """A run, or an evaluation alone: its name on the page, what was measured, and what is known of how it was made.

    `recipe`: settings by name, `seconds`: of the whole run; `training`: its logs.
    """

    name: str
    evaluations: Sequence[Evaluation]
    verdict: Verdict
    recipe: Mapping[str, str] = field(default_factory=dict)
    training: Path | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Standing:
    """A run in the table: what its model reached, and its difference to its own base and to the first run."""

    model: Model
    outcome: Phrase
    values: list[Cell]
    from_base: tuple[str, str, str, Whisker | None]
    from_first: tuple[str, str, str, Whisker | None] | None
    time: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """What comparing runs came to. `together`: each against the first one, `lead`: the best against the second best, paired by query.

    None where the runs were measured on different test sets.
    """

    runs: Sequence[Compared]
    models: Sequence[Evaluation]
    together: tuple[Difference, ...] | None = None
    lead: Difference | None = None

    @property
    def ranked(self) -> list[int]:
        """The runs' places by nDCG@10, the best first; as they were given, where their test sets differ."""
        if self.together is None:
            return list(range(len(self.runs)))
        return sorted(range(len(self.runs)), key=lambda place: -self.models[place].measures.get("nDCG@10", Interval(float("nan"))).value)

    def plain(self) -> dict[str, Any]:
        """The comparison in dictionaries, lists and numbers, fit for JSON, runs as `ranked`; None for what is no number."""

        def interval(found: Interval | None) -> dict[str, float | None] | None:
            return None if found is None else {name: value if math.isfinite(value) else None for name, value in asdict(found).items()}

        against = {each.name: each for each in self.together or ()}
        ranked = []
        for run, model in ((self.runs[place], self.models[place]) for place in self.ranked):
            from_base, from_first = own(run.verdict, base_and_tuned(run.evaluations)[1]), against.get(run.name)
            ranked.append(
                {
                    "run": run.name,
                    "outcome": run.verdict.outcome,
                    "action": run.verdict.action,
                    "measures": {name: interval(value) for name, value in model.measures.items()},
                    "from_base": from_base and {name: interval(value) for name, value in from_base.measures.items()},
                    "from_first": from_first and {name: interval(value) for name, value in from_first.measures.items()},
                }
            )
        return {"sentence": claim(self).en, "same_test": self.together is not None, "first": self.runs[0].name, "runs": ranked}


def compare_runs(runs: Sequence[Compared]) -> Comparison:
    """Set the tuned models of runs beside each other, paired by test query where all were measured on the same test set.

    Raises InputError for fewer than two runs, SettingError where two have one name.
    """
    if len(runs) < 2:
        raise InputError("there is nothing to compare", got=f"{len(runs)} run", expected="two or more")
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        raise SettingError("two runs have the same name", got=", ".join(names))
    models = [replace(base_and_tuned(run.evaluations)[1], name=run.name) for run in runs]
    found = Comparison(runs, models)
    if not all(same_test(models[0], each) for each in models[1:]):
        return found
    paired = Paired(models, RESAMPLES, SEED)
    found = replace(found, together=adjusted([paired.difference(each, models[0]) for each in models[1:]]))
    best, second = (models[place] for place in found.ranked[:2])
    return replace(found, lead=paired.difference(best, second))


def comparison_page(found: Comparison, out: Path | str, settings: Reporting | None = None, figures: Path | str | None = None) -> Path:
    """Write the page of a comparison to `out` and return its path. `figures`: a directory for its charts as SVG and CSV."""
    settings = settings or Reporting()
    models, runs = shown(found.models), found.runs
    drawn = {"deciding": _deciding(found.models) if found.together is not None else [], "training": _learning(runs)}
    first, best = found.models[0], found.models[found.ranked[0]]
    other = best if best is not first else found.models[found.ranked[1]]
    page = filled(
        "compare.html.j2",
        phrases.COMPARED_TITLE.format(names=", ".join(model.name for model in models)),
        settings.language,
        texts=settings.texts,
        models=models,
        claim=claim(found),
        together=found.together is not None,
        measures=[name for name in MEASURES if any(name in e.measures for e in found.models)],
        standings=_standings(found, models),
        drawn=drawn,
        movers=movers(first, other, texts=settings.texts) if found.together is not None else None,
        settings=_differing(runs, settings.texts),
    )
    path = write(page, out)
    if figures is not None:
        export([(each.caption, each.chart) for each in (*drawn["deciding"], *drawn["training"])], Path(figures), settings.language)
    return path


def claim(found: Comparison) -> Phrase:
    """The comparison in one sentence: whether the best can be told from the second best."""
    best, second = (found.models[place] for place in found.ranked[:2])
    if found.lead is None:
        return phrases.COMPARED_APART.format(n=len(found.runs))
    gain, clear = found.lead.measures.get("nDCG@10", Interval(float("nan"))), found.lead.sign("nDCG@10") == 1
    if clear:
        said = phrases.COMPARED_BEST if ranks(found.lead, best, second) else phrases.COMPARED_UNRANKED
    else:
        said = phrases.COMPARED_LEVEL if round(gain.value, 3) == 0 else phrases.COMPARED_OPEN
    doubt = found.lead.doubt("nDCG@10") if "nDCG@10" in found.lead.measures else None
    chance = "" if doubt is None else f", p {number(doubt)}"
    interval = phrases.INTERVAL.format(interval=between(gain, signed)) if between(gain) else Phrase("", "")
    return said.with_phrase("interval", interval).format(best=best.name, second=second.name, gain=number(gain.value), chance=chance)


def _standings(found: Comparison, models: Sequence[Model]) -> list[Standing]:
    names = [name for name in MEASURES if any(name in e.measures for e in found.models)]
    columns = {name: cells([e.measures.get(name) for e in found.models], ranked=found.together is not None) for name in names}
    against = {each.name: each for each in found.together or ()}
    bases = [own(run.verdict, base_and_tuned(run.evaluations)[1]) for run in found.runs]
    gains = [each.measures["nDCG@10"] for each in (*bases, *against.values()) if each is not None and "nDCG@10" in each.measures]
    scale = reach(gains)

    def gained(difference: Difference | None) -> tuple[str, str, str, Whisker | None]:
        if difference is None or (gain := difference.measures.get("nDCG@10")) is None:
            return NONE, "", "open", None
        return signed(gain.value), between(gain, signed), clear(difference, "nDCG@10"), whisker(gain, scale)

    return [
        Standing(
            models[place],
            phrases.OUTCOMES[run.verdict.outcome],
            [columns[name][place] for name in names],
            gained(bases[place]),
            gained(against.get(run.name)) if against else None,
            NONE if run.seconds is None else duration(run.seconds),
        )
        for place, run in ((place, found.runs[place]) for place in found.ranked)
    ]


def _deciding(models: Sequence[Evaluation]) -> list[Figure]:
    f1, curve = charts.f1_chart(models, stale=False), charts.precision_recall_chart(models)
    return [
        *([Figure(phrases.F1_CAPTION, f1, phrases.F1_NOTE)] if f1 else []),
        *([Figure(phrases.PR_CAPTION, curve, phrases.PR_NOTE)] if curve else []),
    ]


def _learning(runs: Sequence[Compared]) -> list[Figure]:
    """The runs' looks at dev and their losses, each over its own steps."""
    figures = []
    for key, caption in (("dev_nDCG@10", phrases.ON_DEV.format(measure="nDCG@10")), ("loss", phrases.TRAINING_LOSS)):
        lines: list[Line] = []
        for place, run in enumerate(runs):
            lines += line(records(run.training), key, charts.label(run.name), series(place), noisy=key == "loss")
        if lines:
            figures.append(Figure(caption, history(f"training-{key.removeprefix('dev_').split('@')[0].lower()}", caption.en, lines)))
    return figures


def _differing(runs: Sequence[Compared], texts: bool) -> list[Row]:
    """The settings that are not the same in all runs, a row each."""
    names = dict.fromkeys(name for run in runs for name in run.recipe)
    rows = []
    for name in names:
        values = [run.recipe.get(name, NONE) for run in runs]
        if len(set(values)) > 1 and any(run.recipe for run in runs):
            shown = [Path(value).name if name in UNTOLD and not texts else value for value in values]
            rows.append(Row(name, [Cell(value) for value in shown]))
    return rows
