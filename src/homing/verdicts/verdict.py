"""What evaluations come to: the last model against the first and against the best that needs no training, in one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from homing.arguments import demand
from homing.data import demand_values
from homing.errors import SettingError
from homing.measures.evaluations import Evaluation
from homing.settings import Evaluating
from homing.verdicts.causes import Cause, Circumstances
from homing.verdicts.conclusion import Action, Conclusion, Outcome
from homing.verdicts.context import Context
from homing.verdicts.differences import Comparison, Difference, Power
from homing.verdicts.slices import Slice, slices
from homing.verdicts.wording import notes


@dataclass(frozen=True)
class Verdict:
    """The comparison in one word, one sentence, one action, and the numbers behind it.

    `differences`: each model against the first; `untrained`: the last model against the best that needs no training (the base, BM25,
    or both fused), None where that is the first model alone. `causes`, the likeliest first: why nothing was gained, or why what
    gained is not to be deployed.
    `ranked`: whether nDCG@10 may rank the models (not where Judged@10 differs by more than .05, unless nDCG@10 over judged documents alone
    says the same). `deployed`: the last model against the one named `deployed`, where that was measured. `context`: what the run measured
    beside its test set. `chosen`: what to deploy or to keep; the last model fused with BM25, where only both together are worth it; or the
    best that needs no training, where none is in use and that is clearly better than the first model.
    """

    outcome: Outcome
    sentence: str
    differences: tuple[Difference, ...]
    notes: tuple[str, ...] = ()
    action: Action = "keep the base"
    untrained: Difference | None = None
    deployed: Difference | None = None
    causes: tuple[Cause, ...] = ()
    power: Power | None = None
    slices: tuple[Slice, ...] = ()
    ranked: bool = True
    context: Context = field(default_factory=Context)
    chosen: str = ""


def compare(
    evaluations: Sequence[Evaluation], resamples: int = 1000, seed: int = 42, worthwhile: float = 0.02, *,
    circumstances: Circumstances | None = None, columns: Mapping[str, Sequence[str]] | None = None, context: Context | None = None,
) -> Verdict:  # fmt: skip
    """The verdict on the last model against the first, and the paired difference of everything else against the first.

    *gained*: nDCG@10 and AP are both higher (nDCG@10 alone, where no non-relevant pair is judged), by an interval above 0 and a
    randomisation test at 5 %, Holm-adjusted over the models; *lost*: one is lower in that sense and none higher; *mixed*: one higher,
    one lower; *undecided*: anything else. F1 is shown, but doesn't decide. Where Judged@10 differs by more than .05, nDCG@10 is read twice,
    with unjudged documents as not relevant and without them: the first favours the model whose documents are judged, the second the other
    one (Sakai 2008, CIKM). Where the two don't say the same, nDCG@10 doesn't decide either, and nothing is called gained.

    `worthwhile`: the smallest difference in nDCG@10 that matters to the user. `circumstances`: what is known of the training, for the
    causes of no gain. `columns`: values of each query by position, for slices of the user's own. `context`: what was measured beside the
    test set; with several seeds in it, the interval of their mean's difference to the first must leave out 0 as well.

    Raises SettingError where there is no evaluation, where they are not all of one test set or two have one name, for a number out of
    range, and for a column that has not one value a query.
    """
    demand(list | tuple, evaluations=evaluations)
    if not evaluations:
        raise SettingError("there is nothing to compare", expected="at least one evaluation", remedy="Evaluate a model first.")
    Evaluating(resamples=resamples, worthwhile=worthwhile, seed=seed)  # refuses what is out of range
    demand(Evaluation, **{f"evaluations[{place}]": each for place, each in enumerate(evaluations)})
    demand(Mapping | None, columns=columns)
    demand_values(columns or {}, len(evaluations[0].test.queries))
    context = context or Context()
    found = Conclusion(evaluations, Comparison(evaluations, resamples, seed), worthwhile, circumstances, context)
    if found.last is found.first:
        alone = f"{found.first.name} alone was measured: there is nothing to compare it with."
        return Verdict("undecided", alone, found.differences, notes(found.first, found.first, context), context=context)
    untrained, in_use = (None if each is None else each.difference for each in (found.untrained, found.in_use))
    return Verdict(
        found.outcome, found.sentence, found.differences, found.notes, found.action, untrained, in_use, found.causes, found.power,
        slices(found.first, found.last, found.comparison.draws, columns, seed), found.ranked, context, found.chosen,
    )  # fmt: skip
