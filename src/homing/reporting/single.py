"""The report on an evaluation: its parts gathered, its page written, its figures exported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homing.arguments import demand, demand_path
from homing.errors import InputError
from homing.figures.chart import Chart
from homing.measures.evaluations import Evaluation
from homing.reporting import charts, phrases
from homing.reporting.beside import beside, learning_chart
from homing.reporting.curves import training_charts
from homing.reporting.export import export
from homing.reporting.figure import Figure
from homing.reporting.header import header
from homing.reporting.language import Phrase
from homing.reporting.made import counts, made
from homing.reporting.models import base_and_tuned, shown
from homing.reporting.movers import movers
from homing.reporting.numbers import number
from homing.reporting.page import filled, write
from homing.reporting.parts import properties
from homing.reporting.passages import printable
from homing.reporting.sentences import in_both
from homing.reporting.suspects import audited, suspects
from homing.reporting.tables import deciding, ranking
from homing.settings import Reporting
from homing.verdicts.verdict import Verdict, compare


def report(
    *evaluations: Evaluation,
    out: Path | str,
    training: Path | str | None = None,
    run: Path | str | None = None,
    checked: Mapping[str, Any] | None = None,
    verdict: Verdict | None = None,
    settings: Reporting | None = None,
    figures: Path | str | None = None,
) -> Path:
    """Write one self-contained HTML file about these models to `out`, and return its path.

    The first evaluation is the one that the others are measured against. `training`: the directory of `metrics.jsonl`, or that file;
    without it, or where it holds nothing, there are no training curves. `run`: a run's directory, for how it was made and, unless
    `training` says otherwise, its curves. `checked`: what a check of the splits found (`Check.to_dict`). `verdict`: made of the
    evaluations by `verdicts.compare` where none is handed in. `figures`: a directory that gets each chart as SVG and the numbers behind it
    as CSV. Same values in, same bytes out; the file appears whole or not at all.

    Raises InputError where there is no evaluation, where `run` or `training` is not there, and for an argument of another kind.
    """
    if not evaluations:
        raise InputError("there is nothing to report", expected="at least one evaluation", remedy="Evaluate a model first.")
    demand_path(out=out)
    demand(Evaluation, **{f"evaluations[{place}]": each for place, each in enumerate(evaluations)})
    demand(Verdict | None, verdict=verdict)
    demand(Reporting | None, settings=settings)
    settings = settings or Reporting()
    verdict = compare(evaluations) if verdict is None else verdict
    run, training = (None if each is None else Path(each) for each in (run, training))
    if gone := next((each for each in (run, training) if each is not None and not each.exists()), None):
        raise InputError("there is no such file or directory", where=str(gone), remedy="Check the path of the run, or of the training.")
    logs = run / "training" if training is None and run is not None else training
    first, last = base_and_tuned(evaluations)
    models = shown(evaluations)
    scored = [e for e in evaluations if e.has_scores] or list(evaluations)
    drawn = _Drawn.of(evaluations, verdict, logs)
    stale = charts.borrowed(evaluations, last)
    page = filled(
        "report.html.j2",
        phrases.TITLE.with_phrase("outcome", phrases.OUTCOMES[verdict.outcome]).format(models=", ".join(model.name for model in models)),
        settings.language,
        texts=settings.texts,
        models=models,
        first=models[0],
        last=models[evaluations.index(last)],
        verdict=verdict,
        header=header(evaluations, verdict),
        causes_title=phrases.CAUSES_OF_GAINED if verdict.outcome == "gained" else phrases.CAUSES,
        causes=[(in_both(each.name), in_both(each.evidence), in_both(each.experiment)) for each in verdict.causes],
        ranking=ranking(evaluations, verdict),
        deciding=deciding(scored),
        deciding_models=[model for model, e in zip(models, evaluations, strict=True) if e in scored],
        compared_models=[model for model, e in zip(models, evaluations, strict=True) if e.kind == "model"],
        drawn=drawn,
        errors=[
            (model, number(e.reliability.error))
            for model, e in zip(models, evaluations, strict=True)
            if e.kind == "model" and e.reliability is not None
        ],
        borrowed=None if stale is None else number(stale[1]),
        dev_pairs=f"{len(first.dev.qrels):,}",
        slices=properties(verdict.slices, first, last, texts=settings.texts),
        slice_measure=verdict.slices[0].measure if verdict.slices else "",
        beside=beside(verdict.context, evaluations),
        looks=verdict.context.looks,
        movers=movers(first, last, texts=settings.texts) if last is not first else None,
        suspects=suspects(evaluations, texts=settings.texts),
        audited=audited(run, last.test, texts=settings.texts),
        prompts=[
            (model, [(kind, json.dumps(text, ensure_ascii=False)) for kind, text in sorted(e.prompts.items()) if text])
            for model, e in zip(models, evaluations, strict=True)
            if e.kind == "model"
        ],
        made=made(run, texts=settings.texts),
        counts=counts(checked) if checked is not None else None,
    )
    path = write(page, out)
    if figures is not None:
        export(drawn.named(), Path(figures), settings.language)
    return path


@dataclass(frozen=True)
class _Drawn:
    """Every chart of a report, where it stands in the page."""

    f1: Figure | None
    precision_recall: Figure | None
    reliability: Figure | None
    scores: list[Figure]
    training: list[Figure]
    learning: Figure | None

    @classmethod
    def of(cls, evaluations: Sequence[Evaluation], verdict: Verdict, training: Path | None) -> _Drawn:
        f1, curve = charts.f1_chart(evaluations), charts.precision_recall_chart(evaluations)
        trust, learning = charts.reliability_chart(evaluations), learning_chart(verdict.context.curve)
        return cls(
            Figure(phrases.F1_CAPTION, f1) if f1 else None,
            Figure(phrases.PR_CAPTION, curve, phrases.PR_NOTE) if curve else None,
            Figure(phrases.RELIABILITY_CAPTION, trust, phrases.RELIABILITY_NOTE) if trust else None,
            [
                Figure(phrases.SCORES_CAPTION.format(model=printable(name)), chart, phrases.SCORES_NOTE)
                for name, chart in charts.distribution_charts(evaluations)
            ],
            [Figure(title, chart) for title, chart in training_charts(training)],
            Figure(*learning) if learning else None,
        )

    def named(self) -> list[tuple[Phrase, Chart]]:
        """All of them, each with its caption."""
        alone = [each for each in (self.f1, self.precision_recall, self.reliability, self.learning) if each is not None]
        return [(each.caption, each.chart) for each in (*alone, *self.scores, *self.training)]
