"""What was measured beside the verdict: other prompts and seeds, fewer judgments, shorter embeddings, data outside the domain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from homing.figures.canvas import Line
from homing.figures.chart import Chart
from homing.figures.history import history
from homing.measures.evaluations import Evaluation
from homing.reporting import phrases
from homing.reporting.language import Phrase
from homing.reporting.models import base_and_tuned
from homing.reporting.numbers import NONE, between, count, number, percent, signed
from homing.reporting.tables import Cell, sign
from homing.verdicts.context import Anew, Context, General, Instructions, LearningCurve, Seeds, Shortened


@dataclass(frozen=True)
class Table:
    """A small table: a heading a column, the first of them that of the rows."""

    title: Phrase
    lead: Phrase
    columns: list[Phrase]
    rows: list[tuple[Phrase | str, list[Cell]]]
    after: tuple[Phrase, ...] = ()


def beside(context: Context, evaluations: Sequence[Evaluation]) -> list[Table]:
    """A table for each thing that was measured beside the test; none for what was not asked for."""
    first, last = (e.name for e in base_and_tuned(evaluations))
    found = []
    if context.general:
        found.append(_forgetting(context.general, first, last))
    if context.curve is not None:
        found.append(_learning(context.curve))
    if context.seeds is not None:
        found.append(_seeds(context.seeds))
    if context.anew is not None:
        found.append(_begun(context.anew))
    if context.shortened:
        found.append(_shortened(context.shortened, first, last))
    if context.instructions is not None:
        found.append(_instructions(context.instructions))
    return found


def learning_chart(curve: LearningCurve | None) -> tuple[Phrase, Chart] | None:
    """nDCG@10 on test against the share of the judgments that was trained on."""
    points = [point for point in curve.points if "nDCG@10" in point.measures] if curve is not None else []
    if len(points) < 2:
        return None
    x, y = np.array([100 * p.share for p in points]), np.array([p.measures["nDCG@10"].value for p in points])
    title = phrases.LEARNING_CURVE
    return title, history("learning-curve", title.en, [Line("", x, y, "series-1")], "% of the judgments")


def _forgetting(general: Sequence[General], first: str, last: str) -> Table:
    rows: list[tuple[Phrase | str, list[Cell]]] = [
        (
            each.name,
            [
                Cell(count(each.queries)),
                *(Cell(number(each.values.get(name))) for name in dict.fromkeys((first, last))),
                Cell(signed(each.difference.value), between(each.difference, signed), sign=sign(each.difference)),
            ],
        )
        for each in general
    ]
    names = [Phrase(name, name) for name in dict.fromkeys((first, last))]
    columns = [phrases.SET, phrases.COLUMNS["queries"], *names, phrases.DIFFERENCE]
    return Table(phrases.FORGETTING, phrases.FORGETTING_LEAD, columns, rows)


def _learning(curve: LearningCurve) -> Table:
    names = list(dict.fromkeys(name for point in curve.points for name in point.measures))
    rows: list[tuple[Phrase | str, list[Cell]]] = [
        (
            percent(point.share, 0),
            [
                Cell(count(point.queries)),
                *(
                    Cell(number(point.measures[name].value), between(point.measures[name])) if name in point.measures else Cell(NONE)
                    for name in names
                ),
            ],
        )
        for point in curve.points
    ]
    fallen = dict.fromkeys(each.measure for each in curve.forecasts if each.falls)
    after = (
        *(() if curve.forecasts else (phrases.FORECAST_NONE,)),
        *(phrases.FORECAST_FALLS.format(measure=measure) for measure in fallen),
        *(
            (phrases.FORECAST if each.tells else phrases.FORECAST_OPEN).format(
                factor=f"{each.factor:g}", measure=each.measure, gain=signed(each.gain.value), interval=between(each.gain, signed)
            )
            for each in curve.forecasts
            if each.measure not in fallen
        ),
    )
    columns = [phrases.JUDGMENTS_SHARE, phrases.TRAINING_QUERIES, *(Phrase(name, name) for name in names)]
    return Table(phrases.MORE_JUDGMENTS, phrases.MORE_JUDGMENTS_LEAD, columns, rows, after)


def _seeds(seeds: Seeds) -> Table:
    rows: list[tuple[Phrase | str, list[Cell]]] = []
    for name, values in seeds.values.items():
        gain = seeds.differences.get(name)
        cells = [Cell(number(value)) for value in values]
        cells.append(Cell(number(seeds.deviations.get(name, float("nan")), 4)))
        cells.append(Cell(NONE) if gain is None else Cell(signed(gain.value), between(gain, signed), sign=sign(gain)))
        rows.append((name, cells))
    columns = [phrases.MEASURE, *(phrases.SEED.format(n=seed) for seed in seeds.seeds), phrases.DEVIATION, phrases.MEAN_DIFFERENCE]
    return Table(phrases.SEEDS, phrases.SEEDS_LEAD, columns, rows)


def _begun(found: Anew) -> Table:
    rows: list[tuple[Phrase | str, list[Cell]]] = []
    for name, value in found.values.items():
        gain = found.differences[name]
        cells = [Cell(number(value + gain.value)), Cell(number(value)), Cell(signed(gain.value), between(gain, signed), sign=sign(gain))]
        rows.append((name, cells))
    columns = [phrases.MEASURE, phrases.GONE_ON, phrases.BEGUN_ANEW, phrases.DIFFERENCE]
    return Table(phrases.ANEW, phrases.ANEW_LEAD, columns, rows, (phrases.ANEW_BETTER[found.better],))


def _shortened(found: Sequence[Shortened], first: str, last: str) -> Table:
    rows: list[tuple[Phrase | str, list[Cell]]] = [
        (
            str(each.dimension),
            [
                *(Cell(number(value.value), between(value)) for value in (each.base, each.tuned)),
                Cell(signed(each.difference.value), between(each.difference, signed), sign=sign(each.difference)),
            ],
        )
        for each in found
    ]
    columns = [phrases.DIMENSION_ROW, *(Phrase(name, name) for name in (first, last)), phrases.CUT_DIFFERENCE.format(last=last)]
    return Table(phrases.SHORTENED, phrases.SHORTENED_LEAD, columns, rows)


def _instructions(found: Instructions) -> Table:
    rows: list[tuple[Phrase | str, list[Cell]]] = [
        (
            json.dumps(each.prompt, ensure_ascii=False) if each.prompt else phrases.BARE_PROMPT,
            [Cell(number(each.ndcg), phrases.RUN_OWN if each.prompt == found.own else "", best=each.prompt == found.chosen)],
        )
        for each in found.tried
    ]
    lead = phrases.INSTRUCTIONS_LEAD.format(queries=count(found.queries), documents=count(found.documents))
    return Table(phrases.INSTRUCTIONS, lead, [phrases.PROMPT, Phrase("nDCG@10", "nDCG@10")], rows)
