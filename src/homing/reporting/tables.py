"""The tables of measures: what each model reached, a row a measure and a column a model, in two groups of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from homing.measures.evaluations import Evaluation, Interval, Trade
from homing.measures.thresholds import NAMED, best_threshold, f1_of_all
from homing.reporting import phrases
from homing.reporting.language import Phrase
from homing.reporting.numbers import NONE, between, count, duration, number, percent, signed
from homing.verdicts.differences import Difference
from homing.verdicts.verdict import Verdict

FIRST_ROWS = ("nDCG@10", "R@10", "R@100", "RR@10")
ORDERING = ("AP", "ROC AUC", "list nDCG", "list RR")
DECIDED = ("F1", "precision", "recall", "list F1")
RETRIEVED = {
    "retrieval F1": phrases.F1_ROW, "retrieval precision": phrases.PRECISION_ROW, "retrieval recall": phrases.RECALL_ROW,
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A value of the table, with what stands small below it: its interval, or a remark."""

    value: str
    below: Phrase | str = ""
    best: bool = False
    sign: str = ""


@dataclass(frozen=True)
class Row:
    """A measure, and what each model reached."""

    label: Phrase | str
    cells: list[Cell]
    note: Phrase | str = ""


@dataclass(frozen=True)
class Group:
    """Measures that answer one question."""

    title: Phrase
    note: Phrase | str
    rows: list[Row]


def ranking(evaluations: Sequence[Evaluation], verdict: Verdict) -> list[Group]:
    """Does the right document come first? Over the corpus, over the judged lists, and what may change between models."""
    names = dict.fromkeys(name for e in evaluations for name in e.per_query if not name.startswith("list "))
    found = [*(name for name in FIRST_ROWS if name in names), *(name for name in names if name not in FIRST_ROWS)]
    more = [name for e in evaluations for name in e.measures if name.startswith("list ") and name not in (*ORDERING, *DECIDED)]
    groups = [
        Group(phrases.FINDING, phrases.CLOSED_POOL, _rows(evaluations, found)),
        Group(
            phrases.DIFFERENCE,
            phrases.DIFFERENCE_NOTE.format(first=evaluations[0].name),
            _differences(evaluations, verdict.differences) if len(evaluations) > 1 else [],
        ),
        Group(phrases.ORDERING, phrases.ORDERING_NOTE, _rows(evaluations, [*ORDERING, *dict.fromkeys(more)])),
        Group(phrases.BARE, phrases.BARE_NOTE, _bare(evaluations)),
        Group(phrases.SPEED, phrases.SPEED_NOTE, _speed(evaluations)),
        Group(phrases.COST, phrases.COST_NOTE, _cost(evaluations)),
    ]
    return [group for group in groups if group.rows]


def deciding(evaluations: Sequence[Evaluation]) -> list[Group]:
    """Is this document relevant? By a threshold, on judged lists and on what a search returns; nothing where test has one kind alone."""
    relevant = [e.relevant for e in evaluations]
    if all(mask.all() or not mask.any() for mask in relevant):
        return []
    groups = [
        Group(phrases.AT_THRESHOLD, "", _at_threshold(evaluations)),
        _retrieved(evaluations),
        Group(phrases.RETURNED, phrases.RETURNED_NOTE, _returned(evaluations)),
        Group(phrases.TRADES, phrases.TRADES_NOTE, _trades(evaluations)),
    ]
    return [group for group in groups if group.rows]


def _rows(evaluations: Sequence[Evaluation], names: Sequence[str]) -> list[Row]:
    found = [name for name in names if any(name in e.measures for e in evaluations)]
    return [
        Row(name, cells([e.measures.get(name) for e in evaluations], ranked="Judged" not in name), phrases.MEASURE_NOTES.get(name, ""))
        for name in found
    ]


def _differences(evaluations: Sequence[Evaluation], differences: Sequence[Difference]) -> list[Row]:
    by_name = {each.name: each for each in differences}
    measures = dict.fromkeys(name for each in differences for name in each.measures)
    rows = []
    for measure in measures:
        row = [each if (each := by_name.get(e.name)) is not None and measure in each.measures else None for e in evaluations]
        shown = [
            Cell(NONE)
            if each is None
            else Cell(signed(each.measures[measure].value), between(each.measures[measure], signed), sign=clear(each, measure))
            for each in row
        ]
        rows.append(Row(phrases.DIFFERENCE_ROW.format(measure=measure), shown))
    for measure in dict.fromkeys(name for each in differences for name in each.p_values):
        several = sum(measure in each.p_values for each in differences) > 1
        values = [
            (each.adjusted if several and measure in each.adjusted else each.p_values).get(measure)
            if (each := by_name.get(e.name)) is not None
            else None
            for e in evaluations
        ]
        note = phrases.P_NOTE if several else phrases.P_NOTE_PLAIN
        rows.append(Row(phrases.P_VALUE.format(measure=measure), [Cell(p_value(value)) for value in values], note))
    return rows


def p_value(value: float | None) -> str:
    """A p-value with three decimals, and no zero that none is."""
    return "< 0.001" if value is not None and value < 0.001 else number(value)


def clear(difference: Difference, measure: str) -> str:
    """gain, loss or open: whether the model is clearly better or worse in this measure."""
    return {1: "gain", -1: "loss", 0: "open"}[difference.sign(measure)]


def sign(interval: Interval) -> str:
    """gain, loss or open: on which side of zero the interval lies."""
    return "gain" if interval.low > 0 else "loss" if interval.high < 0 else "open"


def _bare(evaluations: Sequence[Evaluation]) -> list[Row]:
    rows = []
    for name in dict.fromkeys(name for e in evaluations for name in e.bare if not name.endswith(" lost")):
        rows.append(Row(name, cells([e.bare.get(name) for e in evaluations])))
        lost = [e.bare.get(f"{name} lost") for e in evaluations]
        shown = [Cell(NONE) if each is None else Cell(signed(each.value), between(each, signed), sign=sign(each)) for each in lost]
        rows.append(Row(phrases.BARE_LOSS.format(measure=name), shown))
    return rows


def _speed(evaluations: Sequence[Evaluation]) -> list[Row]:
    speeds = [e.speed for e in evaluations]
    if not any(speeds):
        return []
    rates = []
    for speed in speeds:
        if speed is None:
            rates.append(Cell(NONE))
        elif speed.kept or speed.document_seconds <= 0:
            rates.append(Cell(NONE, phrases.KEPT_EMBEDDINGS))
        else:
            rates.append(Cell(count(round(speed.documents / speed.document_seconds))))
    dimensions = [Cell(NONE if speed is None else count(speed.dimension)) for speed in speeds]
    return [
        Row(phrases.SPEED_ROW, rates),
        Row(phrases.SECONDS_ROW, [Cell(duration(e.seconds) if e.kind == "model" else NONE) for e in evaluations]),
        Row(phrases.DIMENSION_ROW, dimensions),
    ]


def _cost(evaluations: Sequence[Evaluation]) -> list[Row]:
    names = dict.fromkeys(name for e in evaluations for name in e.cost)
    return [
        Row(phrases.COST_ROWS.get(name, name), [Cell(f"{e.cost[name]:,.6g}" if name in e.cost else NONE) for e in evaluations])
        for name in names
    ]


def _at_threshold(evaluations: Sequence[Evaluation]) -> list[Row]:
    relevant = [e.relevant for e in evaluations]
    floors = dict.fromkeys((number(f1_of_all(mask)), percent(float(mask.mean()))) for mask in relevant if len(mask))
    beside = phrases.BESIDE.format(floors="")
    each = [phrases.FLOOR_OF.format(floor=floor, share=share) for floor, share in floors]
    beside = Phrase(beside.en + " / ".join(one.en for one in each), beside.zh + " / ".join(one.zh for one in each))
    rows = []
    if any(e.threshold is not None for e in evaluations):
        rows = [
            Row(phrases.THRESHOLD_ROW, [_threshold(e) for e in evaluations]),
            Row(phrases.F1_ROW, cells([e.measures.get("F1") for e in evaluations]), beside),
            Row(phrases.F1_DEV_ROW, [Cell(number(e.dev_f1)) for e in evaluations]),
            Row(phrases.F1_BEST_ROW, [_in_hindsight(e) for e in evaluations], phrases.F1_BEST_NOTE),
            Row(phrases.PRECISION_ROW, cells([e.measures.get("precision") for e in evaluations])),
            Row(phrases.RECALL_ROW, cells([e.measures.get("recall") for e in evaluations])),
        ]
        if any("list F1" in e.measures for e in evaluations):
            rows.append(Row(phrases.F1_LIST_ROW, cells([e.measures.get("list F1") for e in evaluations])))
        rows += _offsets(evaluations)
        rows += _borrowed(evaluations)
    named = [e.f1_at for e in evaluations]
    for at in NAMED:
        rows.append(Row(phrases.F1_AT.format(threshold=at), cells([Interval(f1[at]) if at in f1 else None for f1 in named])))
    rows.append(Row(phrases.F1_FLOOR_ROW, [Cell(number(f1_of_all(mask))) for mask in relevant]))
    rows.append(Row(phrases.SHARE_ROW, [Cell(percent(float(mask.mean())) if len(mask) else NONE) for mask in relevant]))
    return rows


def _threshold(evaluation: Evaluation) -> Cell:
    """The threshold as the score, and below it as the L2 distance of the same cut."""
    chosen = evaluation.decision.list if evaluation.decision is not None else None
    below = f"L2 ≤ {number(chosen.l2)}" if chosen is not None and chosen.l2 is not None else ""
    return Cell(number(evaluation.threshold), below)


def _in_hindsight(evaluation: Evaluation) -> Cell:
    if evaluation.test_best is None and not evaluation.decidable:
        return Cell(NONE)
    at, f1 = evaluation.test_best or best_threshold(evaluation.test_scores, evaluation.relevant)
    return Cell(number(f1), f"@ {number(at)}")


def _offsets(evaluations: Sequence[Evaluation]) -> list[Row]:
    if not any(e.background for e in evaluations):
        return []
    found = cells([e.background.f1 if e.background else None for e in evaluations])
    shown = [
        Cell(cell.value, phrases.OFFSET_HELPS if e.background.helps else phrases.OFFSET_NOT, cell.best) if e.background else cell
        for e, cell in zip(evaluations, found, strict=True)
    ]
    return [Row(phrases.F1_OFFSET_ROW, shown, phrases.F1_OFFSET_NOTE)]


def _borrowed(evaluations: Sequence[Evaluation]) -> list[Row]:
    """F1 of the others at the first model's threshold."""
    first = evaluations[0]
    if first.threshold is None or len(evaluations) < 2:
        return []
    others = [e.has_scores and e.kind == "model" and e is not first for e in evaluations]
    shown = [Cell(number(e.f1_under(first.threshold)) if other else NONE) for e, other in zip(evaluations, others, strict=True)]
    return [Row(phrases.F1_BORROWED_ROW.format(first=first.name), shown, phrases.F1_BORROWED_NOTE)]


def _retrieved(evaluations: Sequence[Evaluation]) -> Group:
    """Deciding over the top k of a search, by a threshold of its own."""
    chosen = [e.decision.retrieval if e.decision is not None else None for e in evaluations]
    depth = next((str(each.top_k) for each in chosen if each is not None and each.top_k is not None), "k")
    rows = [
        Row(label, cells([e.measures.get(name) for e in evaluations]))
        for name, label in RETRIEVED.items()
        if any(name in e.measures for e in evaluations)
    ]
    if rows and any(chosen):
        values = [
            Cell(NONE) if each is None else Cell(number(each.inner_product), "" if each.l2 is None else f"L2 ≤ {number(each.l2)}")
            for each in chosen
        ]
        rows.insert(0, Row(phrases.THRESHOLD_ROW, values))
    return Group(phrases.RETRIEVED.format(k=depth), phrases.RETRIEVED_NOTE, rows)


def _returned(evaluations: Sequence[Evaluation]) -> list[Row]:
    rows = []
    for kind, label in (("list", phrases.RETURNED_LIST), ("retrieval", phrases.RETURNED_RETRIEVAL)):
        found = [e.returned.get(kind) for e in evaluations]
        if any(found):
            shown = [
                Cell(NONE)
                if each is None
                else Cell(
                    number(each.mean, 1),
                    phrases.RETURNED_SPREAD.format(median=f"{each.median:g}", p90=f"{each.p90:g}", nothing=percent(each.nothing, 0)),
                )
                for each in found
            ]
            rows.append(Row(label, shown))
    return rows


def _trades(evaluations: Sequence[Evaluation]) -> list[Row]:
    wanted = dict.fromkeys((trade.wanted, trade.level) for e in evaluations for trade in e.trades)
    rows = []
    for what, level in wanted:
        found = [next((t for t in e.trades if (t.wanted, t.level) == (what, level)), None) for e in evaluations]
        label = phrases.TRADE_PRECISION if what == "precision" else phrases.TRADE_RECALL
        rows.append(Row(label.format(level=f"{level:g}"), [_trade(trade) for trade in found]))
    return rows


def _trade(trade: Trade | None) -> Cell:
    if trade is None:
        return Cell(NONE)
    given, got = (trade.recall, trade.precision) if trade.wanted == "precision" else (trade.precision, trade.recall)
    what = phrases.PRECISION if trade.wanted == "precision" else phrases.RECALL
    return Cell(number(given), phrases.TRADE_GOT.with_phrase("what", what).format(threshold=number(trade.threshold), got=number(got)))


def cells(intervals: Sequence[Interval | None], *, ranked: bool = True) -> list[Cell]:
    """A row of values; where it is `ranked`, the best is marked if models differ in what is shown."""
    shown = [NONE if interval is None else number(interval.value) for interval in intervals]
    best = max((text for text in shown if text != NONE), key=lambda text: float(text.replace("−", "-")), default="")
    differ = ranked and len(set(shown) - {NONE}) > 1
    return [
        Cell(text, "" if interval is None else between(interval), differ and text == best)
        for text, interval in zip(shown, intervals, strict=True)
    ]
