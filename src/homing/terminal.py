"""What a person reads: the verdict in 80 columns, and a copy of everything printed in run.log."""

from __future__ import annotations

import io
import math
import sys
import textwrap
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from homing.context import sentences
from homing.thresholds import NAMED, f1_of_all
from homing.verdicts import Evaluation, Interval, Verdict

WIDTH = 80
ROWS = ("nDCG@10", "R@10", "R@100", "RR@10", "AP", "ROC AUC", "list nDCG", "list RR", "F1", "precision", "recall")


def _cell(found: Interval | None) -> str:
    if found is None:
        return "-"
    if math.isnan(found.low):
        return f"{found.value:.4f}"
    return f"{found.value:.4f} [{found.low:.3f}, {found.high:.3f}]"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def verdict_table(evaluations: Sequence[Evaluation], verdict: Verdict) -> str:
    """The verdict: one sentence, a table of models with 95 % intervals, the paired differences, and what to know about them."""
    lines = [_wrapped(f"VERDICT ({verdict.outcome}): {verdict.sentence}"), ""]
    width = max(22, *(len(each.name) + 2 for each in evaluations))
    beside = max(1, (WIDTH - 12) // width)
    for start in range(0, len(evaluations), beside):
        lines += [*_table(evaluations[start : start + beside], width), ""]
    relevant = evaluations[0].test.qrels.relevance > 0
    if any(each.threshold is not None for each in evaluations):
        f1_of_any = f"calling all of them relevant has F1 {f1_of_all(relevant):.4f}"
        lines.append(_wrapped(f"{relevant.mean():.1%} of the test pairs are relevant; {f1_of_any}."))
    for each in (*verdict.differences, *([verdict.deployed] if verdict.deployed is not None else [])):
        lines += ["", f"{each.name} - {each.against}, paired, 95 %"]
        lines += [f"  {name:8} {value.value:+.4f} [{value.low:+.4f}, {value.high:+.4f}]" for name, value in each.measures.items()]
    lines.append("")
    models = [each for each in evaluations if each.kind == "model"]
    for said in dict.fromkeys(_prompts(each) for each in models):
        names = ", ".join(each.name for each in models if _prompts(each) == said)
        lines.append(_wrapped(f"- prompts of {names}: {said}"))
    for evaluated in evaluations:
        if evaluated.bare:
            reached, lost = evaluated.bare["nDCG@10"], evaluated.bare["nDCG@10 lost"]
            figures = f"nDCG@10 {reached.value:.4f} ({lost.value:+.4f} [{lost.low:+.4f}, {lost.high:+.4f}])"
            lines.append(_wrapped(f"- queries of {evaluated.name} sent without their prompt, as many clients send them: {figures}"))
    lines += [_wrapped(f"- {note}") for note in (*verdict.notes, *sentences(verdict.context))]
    return "\n".join(lines)


def _table(evaluations: Sequence[Evaluation], width: int) -> list[str]:
    """The measures of some models beside each other, a column each."""
    lines = ["test".ljust(12) + "".join(each.name.rjust(width) for each in evaluations)]
    rows = [name for name in ROWS if any(name in each.measures for each in evaluations)]
    lines += [name.ljust(12) + "".join(_cell(each.measures.get(name)).rjust(width) for each in evaluations) for name in rows]
    if any(each.threshold is not None for each in evaluations):
        chosen = ["-" if each.threshold is None else f"{each.threshold:.4f} (dev)" for each in evaluations]
        lines.append("threshold".ljust(12) + "".join(each.rjust(width) for each in chosen))
        for at in NAMED:
            values = ["-" if each.threshold is None else f"{each.curve[1][abs(each.curve[0] - at).argmin()]:.4f}" for each in evaluations]
            lines.append(f"F1 at {at}".ljust(12) + "".join(value.rjust(width) for value in values))
    return lines


def _prompts(evaluation: Evaluation) -> str:
    return f"query {evaluation.prompts['query']!r}, document {evaluation.prompts['document']!r}"


class _Tee(io.TextIOBase):
    """Writes to a stream and, whole lines only and without what a progress bar overwrote, to a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log, self.line = stream, log, ""

    def write(self, text: str) -> int:
        self.stream.write(text)
        *whole, self.line = (self.line + text).split("\n")
        for line in whole:
            kept = line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
            self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {kept}\n")
        if whole:
            self.log.flush()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Copy everything printed, on both streams, to the end of `file`; and the traceback of an error that passes through."""
    file.parent.mkdir(parents=True, exist_ok=True)
    out, err = sys.stdout, sys.stderr
    with file.open("a", encoding="utf-8") as log:
        sys.stdout, sys.stderr = _Tee(out, log), _Tee(err, log)
        try:
            yield
        except BaseException:
            log.write(traceback.format_exc())
            raise
        finally:
            sys.stdout, sys.stderr = out, err
