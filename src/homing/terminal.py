"""The verdict as a person reads it in a terminal of 80 columns, in either language."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from homing.columns import WIDTH, left, right, shortened, width, wrapped
from homing.measures.evaluations import Evaluation, Interval
from homing.measures.thresholds import NAMED, f1_of_all
from homing.reporting import phrases
from homing.reporting.asides import sentences
from homing.reporting.beside import Table, beside
from homing.reporting.comparison import Comparison, claim
from homing.reporting.header import Header, header, own
from homing.reporting.language import Language, Phrase
from homing.reporting.models import base_and_tuned
from homing.reporting.sentences import in_both, label_in_both
from homing.reporting.tables import DECIDED, ORDERING, p_value
from homing.verdicts.causes import Cause
from homing.verdicts.differences import Difference
from homing.verdicts.slices import Slice
from homing.verdicts.verdict import Verdict

COLUMN = 22
"""Columns of a value with its interval."""


_COLON = Phrase(": ", "：")
Said = Callable[..., str]
"""A phrase in the language of the reader, its fields filled in."""


def verdict_table(evaluations: Sequence[Evaluation], verdict: Verdict, language: Language = "en") -> str:
    """The verdict in 80 columns: a sentence, what to do, a table of models with 95 % intervals, what differs, and what to know about it."""

    def said(phrase: Phrase | str, **values: object) -> str:
        return getattr(phrase.format(**values) if values else phrase, language) if isinstance(phrase, Phrase) else phrase

    head = header(evaluations, verdict)
    blocks = [
        _opening(head, said),
        _measures(evaluations, said),
        *(_difference(each, said) for each in _differences(verdict)),
        _causes(phrases.CAUSES_OF_GAINED if verdict.outcome == "gained" else phrases.CAUSES, verdict.causes, said),
        _parts(phrases.OWN_PARTS, [each for each in verdict.slices if each.by not in phrases.SLICE_NAMES], said),
        _parts(phrases.WORSE_PARTS, [each for each in verdict.slices if each.worse], said),
        *(_table(table, said) for table in (beside(verdict.context, evaluations) if language != "en" else ())),
        [
            *_remarks(evaluations, said),
            *(wrapped(f"- {said(note)}") for note in head.notes),
            *(wrapped(f"- {sentence}") for sentence in (sentences(verdict.context) if language == "en" else _looked(verdict, said))),
        ],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _causes(title: Phrase, causes: Sequence[Cause], said: Said) -> list[str]:
    """The likely causes under a title, with their evidence, and the first one's experiment; nothing where there is none."""
    if not causes:
        return []
    lines = [said(title)]
    for number, cause in enumerate(causes, 1):
        lines.append(wrapped(f"{number}. {said(in_both(cause.name))}{said(_COLON)}{said(in_both(cause.evidence))}", indent="   "))
    return [*lines, wrapped(f"{said(phrases.NEXT)}{said(_COLON)}{said(in_both(causes[0].experiment))}")]


def _parts(title: Phrase, parts: Sequence[Slice], said: Said) -> list[str]:
    """What was gained on these parts of the test set, under a title; nothing where there is none."""
    return [said(title), *(_part(each, said) for each in parts)] if parts else []


def _remarks(evaluations: Sequence[Evaluation], said: Said) -> list[str]:
    """The prompts of each model, and what bare queries cost it."""
    lines = []
    models = [e for e in evaluations if e.kind == "model"]
    for prompts in dict.fromkeys(_prompts(e, said) for e in models):
        names = ", ".join(e.name for e in models if _prompts(e, said) == prompts)
        lines.append(wrapped(f"- {said(phrases.PROMPTS_OF, model=names)}{said(_COLON)}{prompts}"))
    for evaluated in evaluations:
        if "nDCG@10" in evaluated.bare and "nDCG@10 lost" in evaluated.bare:
            figures = f"nDCG@10 {evaluated.bare['nDCG@10'].value:.4f} ({_gain(evaluated.bare['nDCG@10 lost'])})"
            lines.append(wrapped(f"- {said(phrases.BARE_OF, model=evaluated.name)}{said(_COLON)}{figures}"))
    return lines


def _part(part: Slice, said: Said) -> str:
    label = f"{said(phrases.SLICE_NAMES.get(part.by, part.by))} {said(label_in_both(part.label))} ({len(part.queries)})"
    return wrapped(f"  {label}: {part.measure} {part.difference.signed}", indent="    ")


def _prompts(evaluation: Evaluation, said: Said) -> str:
    return ", ".join(f"{said(phrases.PROMPT_KINDS[kind])} {evaluation.prompts.get(kind, '')!r}" for kind in ("query", "document"))


def _looked(verdict: Verdict, said: Said) -> list[str]:
    """How many tuned models the test set has measured, where that is known."""
    return [] if verdict.context.looks is None else [said(phrases.LOOKS, n=verdict.context.looks)]


def _table(table: Table, said: Said) -> list[str]:
    """A small table as a line a row."""
    lines = [said(table.title)]
    for name, cells in table.rows:
        values = [
            f"{said(column)} {each.value} {said(each.below)}".strip() + ("*" if each.best else "")
            for column, each in zip(table.columns[1:], cells, strict=True)
        ]
        lines.append(wrapped(f"  {said(name)}: {', '.join(values)}", indent="    "))
    return [*lines, *(wrapped(said(sentence)) for sentence in table.after)]


def _opening(head: Header, said: Said) -> list[str]:
    whole = f"{said(head.claim)} {said(head.evidence)}".replace("： ", "：") if head.evidence is not None else said(head.claim)
    lines = [wrapped(said(phrases.VERDICT, outcome=said(head.outcome)) + whole)]
    if head.action is not None:
        lines.append(wrapped(f"{said(phrases.ACTION_OF)}{said(head.action)}"))
    return lines + [wrapped(said(remark)) for remark in head.remarks]


def _measures(evaluations: Sequence[Evaluation], said: Said) -> list[str]:
    """A row a measure and a column a model, in blocks of as many models as fit."""
    names = list(dict.fromkeys(name for e in evaluations for name in e.measures))
    order = [*(name for name in names if name not in (*ORDERING, *DECIDED)), *(name for name in (*ORDERING, *DECIDED) if name in names)]
    rows = [(name, [_value(e.measures.get(name)) for e in evaluations]) for name in order]
    if any(e.threshold is not None for e in evaluations):
        rows.append((said(phrases.THRESHOLD), ["-" if e.threshold is None else f"{e.threshold:z.4f} (dev)" for e in evaluations]))
        best = [f"{e.test_best[1]:.4f} @ {e.test_best[0]:z.4f}" if e.test_best is not None else "-" for e in evaluations]
        rows.append((said(phrases.TEST_BEST), best))
    named = [e.f1_at for e in evaluations]
    rows += [(said(phrases.F1_AT, threshold=at), [f"{f1[at]:.4f}" if at in f1 else "-" for f1 in named]) for at in NAMED]
    label = max(width(name) for name, _ in rows) + 1
    across = max(1, (WIDTH - label) // COLUMN)
    lines = []
    for start in range(0, len(evaluations), across):
        some = slice(start, start + across)
        lines.append(left("test", label) + "".join(right(shortened(e.name, COLUMN - 2), COLUMN) for e in evaluations[some]))
        there = [(name, values[some]) for name, values in rows if set(values[some]) != {"-"}]
        lines += [left(name, label) + "".join(right(value, COLUMN) for value in values) for name, values in there]
        lines.append("")
    relevant = evaluations[0].relevant
    floor = said(phrases.FLOOR, share=f"{relevant.mean():.1%}", f1=f"{f1_of_all(relevant):.4f}")
    return [*lines[:-1], wrapped(floor)] if not relevant.all() else lines[:-1]


def _value(found: Interval | None) -> str:
    if found is None or math.isnan(found.value):
        return "-"
    return f"{found.value:.4f}" if math.isnan(found.low) else f"{found.value:.4f} [{found.low:.3f}, {found.high:.3f}]"


def _differences(verdict: Verdict) -> list[Difference]:
    """Every difference once: each model against the first, and the tuned one against the best untrained and the deployed."""
    more = [each for each in (verdict.untrained, verdict.deployed) if each is not None]
    told = {(each.name, each.against) for each in verdict.differences}
    return [*verdict.differences, *(each for each in more if (each.name, each.against) not in told)]


def _difference(each: Difference, said: Said) -> list[str]:
    lines = [wrapped(said(phrases.PAIRED, last=each.name, first=each.against))]
    longest = max(8, *map(width, each.measures))
    for name, value in each.measures.items():
        p = each.adjusted.get(name, each.p_values.get(name))
        chance = "" if p is None else f"  p {p_value(p)}"
        lines.append(f"  {left(name, longest)} {value.signed}{chance}")
    if each.borrowed is not None:
        lines.append(wrapped(f"  {said(phrases.F1_BORROWED_ROW, first=each.against)}{said(_COLON)}{each.borrowed:.4f}", indent="    "))
    return lines


def comparison_table(found: Comparison, language: Language = "en") -> str:
    """Several runs in 80 columns, as `ranked`: what each reached, and what it gained over its own base and over the first run."""
    columns = (phrases.RUN, Phrase("nDCG@10", "nDCG@10"), phrases.FROM_BASE, *((phrases.FROM_FIRST_RUN,) if found.together else ()))
    heads = [getattr(each, language) for each in columns]
    against = {each.name: each for each in found.together or ()}
    rows = []
    for place in found.ranked:
        run, model = found.runs[place], found.models[place]
        cells = [shortened(run.name, 20), _value(model.measures.get("nDCG@10")).split(" [")[0]]
        sides = [own(run.verdict, base_and_tuned(run.evaluations)[1]), *([against.get(run.name)] if found.together is not None else [])]
        cells += ["-" if each is None or "nDCG@10" not in each.measures else _gain(each.measures["nDCG@10"]) for each in sides]
        rows.append(cells)
    first = max(width(row[0]) for row in [heads, *rows])
    lines = [wrapped(getattr(claim(found), language)), ""]
    lines += [left(row[0], first) + right(row[1], 9) + "".join(right(each, 25) for each in row[2:]) for row in [heads, *rows]]
    return "\n".join(lines)


def _gain(value: Interval) -> str:
    return f"{value.value:+z.4f}" + ("" if math.isnan(value.low) else f" [{value.low:+z.3f}, {value.high:+z.3f}]")
