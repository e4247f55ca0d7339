"""The report: what an evaluation came to, as one HTML file that needs nothing but a browser."""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homing import figures
from homing.data import Dataset
from homing.errors import InputError
from homing.figures import Line
from homing.thresholds import NAMED, f1_curve, f1_of_all
from homing.verdicts import Difference, Evaluation, Interval, Verdict, compare

CLOSED_POOL = "over the whole corpus, a closed pool: an unjudged document counts as not relevant"
SHOWN = 5
"""Queries shown of those that gained, and of those that lost."""
CUT, LINES = 320, 10
"""Characters and lines of a text that are shown before it is cut."""
NONE = "–"


def report(
    *evaluations: Evaluation,
    out: Path | str,
    training: Path | None = None,
    details: Mapping[str, str] | None = None,
    verdict: Verdict | None = None,
) -> Path:
    """Write one self-contained HTML file about these models to `out`, and return its path.

    The first evaluation is the one that the others are measured against. `training`: the directory of `metrics.jsonl`, or that file;
    without it, or where it holds nothing, there are no training curves. `details` become the table "How it was made". `verdict`: made
    of the evaluations by `verdicts.compare` where none is handed in. Same values in, same bytes out; the file appears whole or not at all.
    """
    if not evaluations:
        raise InputError("there is nothing to report", expected="at least one evaluation", remedy="Evaluate a model first.")
    verdict = compare(evaluations) if verdict is None else verdict
    path = Path(out)
    if path.is_dir():
        raise InputError("a directory stands where the report should be written", where=str(path), remedy="Name a file, like report.html.")
    page = _page(evaluations, verdict, _history(training), _scales(training), details or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        written.write_bytes(page.encode())
        os.replace(written, path)
    finally:
        written.unlink(missing_ok=True)
    return path


def _page(
    evaluations: Sequence[Evaluation],
    verdict: Verdict,
    history: list[dict[str, float]],
    scales: Mapping[str, Any],
    details: Mapping[str, str],
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    world = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: _printable(value) if type(value) is str else value,
    )
    models = [Model(_printable(e.name), figures.series(position)) for position, e in enumerate(evaluations)]
    test, dev = evaluations[0].test, evaluations[0].dev
    return world.get_template("report.html.j2").render(
        tones=figures.TONES,
        models=models,
        verdict=verdict,
        differences=[_difference(difference, evaluations) for difference in verdict.differences],
        facts=_facts(test, len(evaluations[0].queries)),
        groups=_groups(evaluations),
        f1_figure=_f1_figure(evaluations),
        distributions=_distributions(evaluations),
        curves=[*_curves(history), *_kept(scales)],
        movers=_movers(evaluations[0], evaluations[-1]) if len(evaluations) > 1 else None,
        prompts=[
            (model, [(kind, json.dumps(text, ensure_ascii=False)) for kind, text in sorted(e.prompts.items()) if text])
            for model, e in zip(models, evaluations, strict=True)
        ],
        details=details,
        dev_pairs=len(dev.qrels),
        closed_pool=CLOSED_POOL,
    )


@dataclass(frozen=True)
class Model:
    """A model's name and the tone it has in every chart."""

    name: str
    tone: str


@dataclass(frozen=True)
class Cell:
    """A value of the table, with its interval where it has one."""

    value: str
    interval: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A measure, and what each model reached."""

    label: str
    cells: list[Cell]
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Measures that answer one question."""

    title: str
    note: str
    rows: list[Row]


@dataclass(frozen=True)
class Passage:
    """A text as the page shows it: its beginning, and the whole of it where that is more."""

    head: str
    whole: str = ""
    characters: str = ""


@dataclass(frozen=True)
class Judged:
    """A judged document of a query, and its score under the first and the last model."""

    text: Passage
    before: str
    after: str


@dataclass(frozen=True)
class Mover:
    """A query whose ranking changed."""

    query: Passage
    before: str
    after: str
    change: str
    relevant: list[Judged]
    more: int
    rival: Judged | None


@dataclass(frozen=True)
class Movers:
    """The queries that changed most between two models."""

    first: str
    last: str
    gained: list[Mover]
    lost: list[Mover]
    counts: tuple[str, str, str]


# Numbers


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else NONE


def _signed(value: float) -> str:
    if not math.isfinite(value):
        return NONE
    return "0.000" if abs(value) < 0.0005 else f"{value:+.3f}".replace("-", "−")


def _between(interval: Interval, write: Callable[[float], str]) -> str:
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    return f"{write(interval.low)} to {write(interval.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%"


def _relevant(data: Dataset) -> NDArray[np.bool_]:
    return np.asarray(data.qrels.relevance > 0)


# The verdict


def _difference(difference: Difference, evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The differences of one model, each with the two values behind it and the place of its interval on a scale around zero."""
    by_name = {evaluation.name: evaluation for evaluation in evaluations}
    sides = [by_name[name].measures if name in by_name else {} for name in (difference.against, difference.name)]
    ends = [abs(end) for i in difference.measures.values() for end in (i.value, i.low, i.high) if math.isfinite(end)]
    reach = max([*ends, 1e-9]) * 1.08
    tiles = []
    for measure, interval in difference.measures.items():
        tile: dict[str, Any] = {"measure": measure, "value": _signed(interval.value), "interval": _between(interval, _signed)}
        tile["sides"] = [_number(side[measure].value) for side in sides if measure in side]
        tile["sign"] = "gain" if interval.low > 0 else "loss" if interval.high < 0 else "open"
        if tile["interval"]:
            tile["left"], tile["right"] = (f"{50 + 50 * end / reach:.2f}" for end in (interval.low, interval.high))
            tile["at"] = f"{50 + 50 * interval.value / reach:.2f}"
        tiles.append(tile)
    return {"name": difference.name, "against": difference.against, "tiles": tiles}


def _facts(test: Dataset, queries: int) -> list[tuple[str, str]]:
    """What the numbers were measured on."""
    relevant = _relevant(test)
    return [
        ("test queries", f"{queries:,}"),
        ("documents", f"{len(test.corpus):,}"),
        ("judged pairs", f"{len(relevant):,}"),
        ("of them relevant", _percent(float(relevant.mean())) if len(relevant) else NONE),
    ]


# The table


def _groups(evaluations: Sequence[Evaluation]) -> list[Group]:
    def rows(names: Sequence[str]) -> list[Row]:
        found = [name for name in names if any(name in e.measures for e in evaluations)]
        return [Row(name, _cells([e.measures.get(name) for e in evaluations])) for name in found]

    groups = [
        Group("Finding", CLOSED_POOL, rows(["nDCG@10", "R@10", "R@100", "RR@10"])),
        Group(
            "Ordering",
            "the judged pairs alone: AP and ROC AUC over all of them together, the others list by list",
            rows(["AP", "ROC AUC", "list nDCG", "list RR"]),
        ),
        Group("Deciding", "is this candidate relevant? over all judged pairs of test", _deciding(evaluations)),
    ]
    return [group for group in groups if group.rows]


def _deciding(evaluations: Sequence[Evaluation]) -> list[Row]:
    relevant = [_relevant(e.test) for e in evaluations]
    if all(mask.all() or not mask.any() for mask in relevant):
        return []
    floors = [_number(f1_of_all(mask)) for mask in relevant]
    shares = [_percent(float(mask.mean())) if len(mask) else NONE for mask in relevant]
    pairs = dict.fromkeys(f"{floor} ({share} are)" for floor, share in zip(floors, shares, strict=True))
    beside = f"all called relevant: {' / '.join(pairs)}"
    named = np.array([f1_curve(e.test_scores, mask, np.array(NAMED)) for e, mask in zip(evaluations, relevant, strict=True)])
    rows = []
    if any(e.threshold is not None for e in evaluations):
        rows = [
            Row("F1 at the threshold chosen on dev", _cells([e.measures.get("F1") for e in evaluations]), beside),
            Row("threshold chosen on dev", [Cell(NONE if e.threshold is None else _number(e.threshold)) for e in evaluations]),
            Row("F1 at it on dev", [Cell(NONE if e.dev_f1 is None else _number(e.dev_f1)) for e in evaluations]),
            *(Row(f"{name} at it on test", _cells([e.measures.get(name) for e in evaluations])) for name in ("precision", "recall")),
        ]
    for threshold, values in zip(NAMED, named.T, strict=True):
        rows.append(Row(f"F1 at {threshold}", _cells([Interval(float(value)) for value in values]), beside))
    rows.append(Row("F1 of calling everything relevant", [Cell(floor) for floor in floors]))
    rows.append(Row("share of relevant pairs", [Cell(share) for share in shares]))
    return rows


def _cells(intervals: Sequence[Interval | None]) -> list[Cell]:
    """A row of values; the best is marked where models differ in what is shown."""
    shown = [NONE if interval is None else _number(interval.value) for interval in intervals]
    best = max((text for text in shown if text != NONE), key=lambda text: float(text.replace("−", "-")), default="")
    differ = len(set(shown) - {NONE}) > 1
    return [
        Cell(text, "" if interval is None else _between(interval, _number), differ and text == best)
        for text, interval in zip(shown, intervals, strict=True)
    ]


# The figures


def _span(evaluations: Sequence[Evaluation]) -> tuple[float, float] | None:
    """Where the scores of all models lie on test, a little wider; None where there is no score."""
    scores = np.concatenate([e.test_scores[np.isfinite(e.test_scores)] for e in evaluations])
    if not len(scores):
        return None
    low, high = float(scores.min()), float(scores.max())
    room = max((high - low) * 0.02, 0.01)
    return low - room, high + room


def _label(name: str) -> str:
    """A name short enough for a chart: the end of a path."""
    name = _printable(name).rstrip("/").rsplit("/", 1)[-1]
    return name if len(name) <= 22 else f"{name[:10]}…{name[-11:]}"


def _f1_figure(evaluations: Sequence[Evaluation]) -> str:
    span, relevant = _span(evaluations), _relevant(evaluations[0].test)
    if relevant.all() or not relevant.any():
        return ""
    lines = []
    for position, e in enumerate(evaluations):
        grid, values = e.curve
        if len(grid) and np.isfinite(values).any():
            mark = None if e.threshold is None or "F1" not in e.measures else (e.threshold, e.measures["F1"].value)
            lines.append(Line(_label(e.name), grid, values, figures.series(position), mark))
    if not lines or span is None:
        return ""
    low, high = max(span[0], min(float(line.x[0]) for line in lines)), min(span[1], max(float(line.x[-1]) for line in lines))
    if low >= high:
        low, high = float(lines[0].x[0]), float(lines[0].x[-1])
    title = "F1 on test against the threshold, " + "; ".join(
        f"{line.label}: {line.mark[1]:.3f} at {line.mark[0]:.3f}" for line in lines if line.mark is not None
    )
    return figures.f1_curves("f1", title.rstrip(", "), lines, (low, high), f1_of_all(relevant))


def _distributions(evaluations: Sequence[Evaluation]) -> list[tuple[str, str]]:
    span = _span(evaluations)
    if span is None:
        return []
    panels = []
    for position, e in enumerate(evaluations):
        relevant, finite = _relevant(e.test), np.isfinite(e.test_scores)
        title = f"Scores of relevant and of non-relevant pairs under {_label(e.name)}"
        sides = e.test_scores[relevant & finite], e.test_scores[~relevant & finite]
        panels.append((e.name, figures.distribution(f"scores-{position}", title, *sides, span, e.threshold)))
    return panels


def _history(training: Path | None) -> list[dict[str, float]]:
    """The records of `metrics.jsonl`; a step that was run again after a resume counts once, a line cut off by a kill not at all."""
    if training is None:
        return []
    path = training / "metrics.jsonl" if training.is_dir() else training
    if not path.is_file():
        return []
    steps: dict[tuple[float, bool], dict[str, float]] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), (int, float)):
            numbers = {key: float(value) for key, value in record.items() if isinstance(value, (int, float))}
            steps[numbers["step"], any(key.startswith("dev_") for key in numbers)] = numbers
    return [steps[key] for key in sorted(steps)]


def _scales(training: Path | None) -> dict[str, Any]:
    """What `scales.json` holds: nDCG@10 at each share of what was learned, and the share that dev chose; nothing where there is none."""
    path = training / "scales.json" if training is not None and training.is_dir() else None
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path is not None and path.is_file() else {}


def _kept(scales: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The panel of the shares: what was gained on dev beside what was lost on the general set, where there is one."""
    if not scales:
        return []
    found = scales["scales"]
    x = np.array([each["scale"] for each in found], dtype=np.float64)
    chosen = int(np.flatnonzero(x == scales["chosen"])[0])
    lines = []
    for key, label, tone in (("dev_nDCG@10", "dev", "series-2"), ("general_nDCG@10", "general", "series-1")):
        if all(each.get(key) is not None for each in found):
            y = np.array([each[key] for each in found], dtype=np.float64)
            lines.append(Line(label, x, y, tone, mark=(float(x[chosen]), float(y[chosen]))))
    title = "nDCG@10 by the share kept (mark: chosen)"
    return [(title, figures.history("training-scales", title, lines, "share kept"))]


def _curves(history: Sequence[dict[str, float]]) -> list[tuple[str, str]]:
    """The panels of the training: a title and a chart each."""

    def line(key: str, label: str = "", tone: str = "series-1", *, noisy: bool = False, dashed: bool = False) -> list[Line]:
        points = [(record["step"], record[key]) for record in history if math.isfinite(record.get(key, math.nan))]
        x, y = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return [Line(label, x, y, tone, noisy=noisy, dashed=dashed)] if points else []

    panels = [("Training loss", line("loss", noisy=True)), ("Loss on dev", line("dev_loss", tone="series-2"))]
    known = {"dev_loss", "dev_positive_score", "dev_negative_score"}
    for key in dict.fromkeys(key for record in history for key in record if key.startswith("dev_") and key not in known):
        found = line(key, tone="series-2")
        if found:
            best = int(np.argmax(found[0].y))
            found = [replace(found[0], mark=(float(found[0].x[best]), float(found[0].y[best])))]
            if away := line(key.replace("dev_", "general_"), "general", "series-1"):
                found = [replace(found[0], label="dev"), *away]
        panels.append((f"{key.removeprefix('dev_')} on dev", found))
    scores = [
        *line("positive_score", "positives", "relevant", noisy=True),
        *line("dev_positive_score", "on dev", "relevant", dashed=True),
        *line("negative_score", "negatives", "other", noisy=True),
        *line("dev_negative_score", "on dev", "other", dashed=True),
    ]
    panels += [
        ("Mean scores", scores),
        ("Learning rate", line("learning_rate", tone="series-0")),
        ("Gradient norm", line("grad_norm", tone="series-0", noisy=True)),
    ]
    return [(title, figures.history(f"training-{position}", title, lines)) for position, (title, lines) in enumerate(panels) if lines]


# The queries


def _movers(first: Evaluation, last: Evaluation) -> Movers | None:
    """The queries whose nDCG@10 changed most from the first model to the last; None where one of the two has none."""
    measure = "nDCG@10"
    if measure not in first.per_query or measure not in last.per_query:
        return None
    before = dict(zip(first.queries.tolist(), first.per_query[measure].tolist(), strict=True))
    after = dict(zip(last.queries.tolist(), last.per_query[measure].tolist(), strict=True))
    change = {query: after[query] - before[query] for query in before if query in after}
    ranked = sorted(change, key=lambda query: (-change[query], query))
    gained = [query for query in ranked if change[query] > 1e-9]
    lost = [query for query in reversed(ranked) if change[query] < -1e-9]

    def mover(query: int) -> Mover:
        return _mover(first, last, query, before[query], after[query])

    counts = (f"{len(gained):,}", f"{len(lost):,}", f"{len(change) - len(gained) - len(lost):,}")
    return Movers(first.name, last.name, [mover(q) for q in gained[:SHOWN]], [mover(q) for q in lost[:SHOWN]], counts)


def _mover(first: Evaluation, last: Evaluation, query: int, before: float, after: float) -> Mover:
    test = last.test
    start, end = np.searchsorted(test.qrels.query, [query, query + 1])
    relevant = np.flatnonzero(test.qrels.relevance[start:end] > 0) + start
    others = np.flatnonzero(test.qrels.relevance[start:end] <= 0) + start
    others = others[np.isfinite(last.test_scores[others])] if len(last.test_scores) else others[:0]

    def judged(row: int) -> Judged:
        scores = [_number(float(e.test_scores[row])) if row < len(e.test_scores) else NONE for e in (first, last)]
        return Judged(_passage(test.corpus.texts[test.qrels.document[row]]), scores[0], scores[1])

    return Mover(
        query=_passage(test.queries.texts[query]),
        before=_number(before),
        after=_number(after),
        change=_signed(after - before),
        relevant=[judged(int(row)) for row in relevant[:2]],
        more=max(len(relevant) - 2, 0),
        rival=judged(int(others[np.argmax(last.test_scores[others])])) if len(others) else None,
    )


def _passage(text: str) -> Passage:
    """A text, cut where it is long: after some lines, or at a space if one is near, and never inside what is read as one character."""
    text = _printable(text).strip()
    head = "\n".join(text[:CUT].split("\n")[:LINES])
    if len(text) - len(head) < 40 and "\n" not in text[len(head) :].strip():
        return Passage(text)
    end = len(head)
    if end == CUT:
        space = head.rfind(" ", end - 30)
        end = space if space > 0 else end
        while 0 < end < len(text) and (_joins(text[end]) or text[end - 1] == "\u200d"):
            end -= 1
    return Passage(text[:end].rstrip(), text, f"{len(text):,}")


def _joins(character: str) -> bool:
    """Whether this character is read as part of the one before: an accent, a joiner, a skin tone."""
    return character == "\u200d" or unicodedata.category(character) in ("Mn", "Me") or "\U0001f3fb" <= character <= "\U0001f3ff"


_SHOWN_CONTROLS = {code: 0x2400 + code for code in range(0x20) if code not in (0x09, 0x0A)}
_SHOWN_CONTROLS |= (
    {0x7F: 0x2421, 0xFFFE: 0xFFFD, 0xFFFF: 0xFFFD} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD) | dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
)


def _printable(text: str) -> str:
    """The text with what HTML cannot carry made visible: control characters as their pictures, what is no character as U+FFFD."""
    return text.replace("\r\n", "\n").translate(_SHOWN_CONTROLS)
