"""What a run measures beside its verdict: the base at its best, other seeds, fewer judgments, shorter embeddings, other data."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from homing.data import Ints, Splits
from homing.encoders.adapter import Adapter
from homing.encoders.kept import Kept
from homing.encoders.model import Model
from homing.encoders.opening import open_adapter
from homing.encoders.pair import Pair
from homing.encoders.prompted import prompted
from homing.encoders.truncated import Truncated
from homing.evaluating import evaluate
from homing.general import measure, open_sets
from homing.holdout import look
from homing.instructing import read_tasks, takes_instructions, try_instructions
from homing.measures.evaluations import Evaluation
from homing.measures.resampling import Draws, draw, independent, interval, of_queries, samples
from homing.protocols import Encoder
from homing.runs.rundir import further, share_of
from homing.runs.work import Work
from homing.sample import Sample
from homing.settings import Evaluating
from homing.training.traininglog import FILE, records
from homing.verdicts.context import Anew, Context, Instructions, LearningCurve, Point, Reindexing, Seeds, Shortened
from homing.verdicts.differences import COMPARED, DECISIVE
from homing.verdicts.forecast import forecast
from homing.verdicts.variation import over_seeds

SAMPLE = 256  # documents that the encoding rate is measured on
A_WHILE = 2.0  # seconds, likewise


def instructions(work: Work) -> Instructions | None:
    """The prompts tried on the base on dev; None where it takes no instructions and none are given."""
    given = work.recipe.instructions
    if given is None and not takes_instructions(work.base):
        return None
    tasks = read_tasks(Path(given)) if given is not None else ()
    return try_instructions(Kept(work.base), work.splits.dev, tasks, work.recipe.evaluating.seed)


def nested(splits: Splits, share: float, seed: int) -> Ints:
    """Train queries that hold about this share of them, whole groups; those of a smaller share are among those of a larger one."""
    queries = splits.train.qrels.queries
    group = splits.groups[queries]
    order = np.random.default_rng(seed).permutation(np.unique(group))
    place = np.empty(int(group.max()) + 1, dtype=np.int64)
    place[order] = np.arange(len(order))
    sizes = np.bincount(place[group])
    wanted = int(np.searchsorted(np.cumsum(sizes), share * len(queries))) + 1
    return queries[place[group] < wanted]


def with_bare_queries(work: Work, models: Sequence[Encoder], found: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations with nDCG@10 of queries that are sent without their prompt, as many clients do, and what that loses; paired.

    Models without a query prompt are left as they are.
    """
    test, bare = Sample.whole(work.splits.test), {}
    draws = draw(found[0], work.recipe.evaluating.resamples, work.recipe.evaluating.seed)
    for model in models:
        if model.prompts["query"]:
            with_prompt, without = test.ndcg_of([model, prompted(model, "")])
            values = {"nDCG@10": without, "nDCG@10 lost": without - with_prompt}
            bare[model.name] = {name: interval(of_queries(found[0], each, draws), independent(found[0])) for name, each in values.items()}
    return [replace(each, bare=bare.get(each.name, {})) for each in found]


def _of_further(work: Work, settings: Evaluating) -> dict[str, Evaluation]:
    """The evaluation of each further training, by its stage: its adapter on the base, without a merge; one in memory at a time."""
    base, found, alone = work.base, {}, replace(settings, bm25=False)
    for stage in work.stages:
        if " " in stage:
            path = work.directory / further(stage) / "adapter"
            model = Kept(open_adapter(path, base=work.recipe.model, name=stage, device=base.device, dtype=base.dtype))
            found[stage] = evaluate([model], work.splits.dev, work.splits.test, alone, groups=work.splits.groups)[0]
    return found


def _seeds(work: Work, first: Evaluation, tuned: Evaluation, found: dict[str, Evaluation], draws: Draws) -> Seeds | None:
    """The variation between seeds, of every measure that models are compared by."""
    others = [found[f"seed {seed}"] for seed in work.seeds[1:]]
    if not others:
        return None
    base = samples(first, draws)
    each = [samples(evaluation, draws) for evaluation in (tuned, *others)]
    names = [name for name in COMPARED if all(name in its for its in (base, *each))]
    values = {name: np.array([its[name][0] for its in each]) for name in names}
    drawn = {name: np.stack([(its[name] - base[name])[1:] for its in each], axis=1) for name in names}
    return Seeds(
        work.seeds,
        {name: tuple(values[name].tolist()) for name in names},
        {name: float(values[name].std(ddof=1)) for name in names},
        {name: over_seeds(values[name] - base[name][0], drawn[name], independent(tuned), work.recipe.evaluating.seed) for name in names},
    )


def _anew(tuned: Evaluation, found: dict[str, Evaluation], draws: Draws) -> Anew | None:
    """The training that began with the base beside the run's own, which went on from an adapter."""
    if "start base" not in found:
        return None
    own, other = samples(tuned, draws), samples(found["start base"], draws)
    names = [name for name in DECISIVE if name in own and name in other]
    return Anew(
        {name: float(other[name][0]) for name in names}, {name: interval(own[name] - other[name], independent(tuned)) for name in names}
    )


def _curve(work: Work, tuned: Evaluation, found: dict[str, Evaluation], draws: Draws) -> LearningCurve | None:
    """Points of the learning curve, all judgments last, and what it forecasts."""
    stages = [stage for stage in work.stages if stage.startswith("share ")]
    if not stages:
        return None
    shares = [*map(share_of, stages), 1.0]
    queries = [
        _seen(work.directory / place / "training", len(nested(work.splits, share, work.recipe.training.seed)))
        for place, share in zip([*map(further, stages), "."], shares, strict=True)
    ]
    each = [samples(evaluation, draws) for evaluation in (*(found[stage] for stage in stages), tuned)]
    names = [name for name in DECISIVE if all(name in its for its in each)]
    points = tuple(
        Point(share, count, {name: interval(its[name], independent(tuned)) for name in names})
        for share, count, its in zip(shares, queries, each, strict=True)
    )
    forecasts = [
        one
        for name in names
        for one in forecast(
            name,
            np.array(queries),
            np.array([its[name][0] for its in each]),
            np.stack([its[name][1:] for its in each], axis=1),
            independent(tuned),
        )
    ]
    return LearningCurve(points, tuple(forecasts))


def _shortened(work: Work, base: Encoder, tuned: Encoder, first: Evaluation, draws: Draws) -> Iterator[Shortened]:
    """Base and tuned with the shorter embeddings that were trained too."""
    if not (dimensions := [each for each in work.recipe.training.shorter if each < tuned.dimension]):
        return
    cuts = (Truncated(model, dimension) for dimension in dimensions for model in (base, tuned))
    whole, *cut = Sample.whole(work.splits.test).ndcg_of([tuned, *cuts])
    for dimension, of_base, of_tuned in zip(dimensions, cut[::2], cut[1::2], strict=True):
        values = (interval(of_queries(first, each, draws), independent(first)) for each in (of_base, of_tuned, of_tuned - whole))
        yield Shortened(dimension, *values)


def _seen(logs: Path, queries: int) -> int:
    """How many of its queries a training saw before its time was over."""
    log = records(logs / FILE)
    return max(1, round(queries * min(1.0, float(log[-1]["epoch"])))) if log else queries


def reindexing(work: Work, tuned: Model | Pair) -> Reindexing | None:
    """What embedding the corpus again takes, measured on some of it; None where the index that there is stays valid."""
    if isinstance(tuned, Pair) or Adapter(work.directory / "adapter").scale == 0:
        return None
    corpus = work.splits.test.corpus.texts
    drawn = np.random.default_rng(0).permutation(len(corpus))[:SAMPLE].tolist()
    tokens = tuned.tokenize([corpus[document] for document in drawn], "document")
    tuned.encode_tokens(tuned.tokenize([corpus[document] for document in drawn[:16]], "document"))  # the first pass warms up
    done, start = 0, time.perf_counter()
    with torch.inference_mode():
        for chunk in tuned.chunks(tokens.lengths):
            tuned.embed(tokens, chunk).cpu()
            done += int(tokens.lengths[chunk].sum())
            if time.perf_counter() - start > A_WHILE:
                break
    return Reindexing(len(corpus), int(tokens.lengths.mean() * len(corpus)), done / (time.perf_counter() - start))


def context(work: Work, tried: Instructions | None, models: Sequence[Encoder], tuned: Model | Pair, found: Sequence[Evaluation]) -> Context:
    """All that the verdict is to be read with; `models` hold the base first and the tuned one last, `found` their evaluations."""
    recipe = work.recipe
    settings = recipe.evaluating
    further = _of_further(work, settings)
    draws = draw(found[0], settings.resamples, settings.seed)
    ends = (models[0], models[-1])
    test_from = [Path(recipe.test).parent] if recipe.test is not None else []
    return Context(
        tried,
        _seeds(work, found[0], found[-1], further, draws),
        _curve(work, found[-1], further, draws),
        tuple(measure(name, data, ends, settings.resamples, settings.seed) for name, data in open_sets(recipe.general, work.general)),
        reindexing(work, tuned),
        look(work.splits.test, tuned.digest, work.directory, *test_from),
        _anew(found[-1], further, draws),
        tuple(_shortened(work, *ends, found[0], draws)),
    )
