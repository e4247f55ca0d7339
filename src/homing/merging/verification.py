"""Is what was written the adapter on its base? Tensor by tensor by the formula, then layer by layer on texts.

Both read files alone: one tensor, or one layer in float32, is in memory at a time, so that a model larger than memory is verified too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from homing.encoders import streamed
from homing.encoders.model import Model
from homing.encoders.tokens import Tokens
from homing.encoders.weights import Weights
from homing.errors import MergeError
from homing.merging.planning import Plan
from homing.progress import BAR
from homing.shipping.origin import Verified

PROBES = (
    "how do I reset my password",
    "Ice floats because it is less dense than the water around it.",
    "保证期间是确定保证人承担保证责任的期间，不发生中止、中断和延长。",
    "find . -name '*.py' -mtime -1 | xargs grep -l TODO",
)
WORK, LEAST = 2e12, 256  # floating-point operations that texts may take in a pass, which are seconds; tokens that they may always have
LONGEST = 128  # tokens of a text
ALLOWED, ALLOWED_IN_HALF = 1e-5, 1e-2  # of a number, of the largest where that is above 1; of 1 - cosine
ALLOWED_OF_A_LAYER = 1e-4  # of the length of a layer's output, in float32
NOTHING = 1e-6  # of a number: less is no change
SAME_AS_BASE = "Train longer or with a larger --learning-rate; the base itself is what there is to deploy."


def verify_tensors(planned: Plan, written: Weights) -> None:
    """Each tensor, read again, is the one that was planned, and a change has not been rounded away in all of them.

    Raises MergeError.
    """
    if written.entries.keys() != planned.weights.entries.keys():
        names = written.entries.keys() ^ planned.weights.entries.keys()
        raise MergeError("the written weights are not those of the base", where=str(planned.out), got=f"{sorted(names)[0]} on one side")
    moved = survived = False
    with tqdm(total=planned.size, desc="verify", unit="B", unit_scale=True, **BAR) as bar:
        for name in planned.weights.entries:
            base, got = planned.weights[name], written[name]
            exact = planned.changed_weight(name, base)
            wanted = planned.rounded(name, exact)
            if got.dtype != wanted.dtype or not torch.equal(got, wanted):
                raise MergeError(
                    "a written weight is not W + scale (W' - W)", where=f"{planned.out}: {name}", remedy="Nothing was kept: check the disk."
                )
            if name in planned.changed:
                moved = moved or not torch.equal(exact, base.float())
                survived = survived or not torch.equal(got, base.to(got.dtype))
            bar.update(got.nbytes)
    if planned.changed and not moved:
        raise MergeError(
            "the adapter changes nothing: merged, it would equal the base", where=str(planned.adapter.path), remedy=SAME_AS_BASE
        )
    if planned.changed and not survived:
        raise MergeError(
            "the change is too small for the number format: merged, it would equal the base", where=str(planned.adapter.path),
            got=str(planned.target).removeprefix("torch."), remedy="Give --dtype float32.",
        )  # fmt: skip


def verify_layers(planned: Plan, written: Path, texts: Sequence[str]) -> Verified:
    """The adapter beside its base's weights, and the written directory as it reads itself, give alike activations and embeddings.

    `written` is the directory, its weights verified. Of `texts` as many are taken as are run in seconds. Raises MergeError where a layer's
    activations or the embeddings are further apart than rounding takes them, or equal to the base's at any scale but 0.
    """
    base = planned.base if planned.base.device.type == "meta" else planned.base.again("meta", torch.float32)
    after = Model(written, device="meta", trust_remote_code=base.trust_remote_code)
    if (after.prompts, after.pooling, after.max_length) != (base.prompts, base.pooling, base.max_length):
        raise MergeError(
            "the written directory says other conventions than the base", where=str(planned.out),
            got=f"{after.prompts}, {after.pooling}, {after.max_length}", expected=f"{base.prompts}, {base.pooling}, {base.max_length}",
        )  # fmt: skip
    tokens, theirs = _tokens(base, texts), _tokens(after, texts)
    if not (np.array_equal(tokens.ids, theirs.ids) and np.array_equal(tokens.offsets, theirs.offsets)):
        raise MergeError("the written tokenizer gives other tokens than the base's", where=str(planned.out))
    read, one = _reader(planned, planned.weights), Tokens.of([tokens[0]])
    passes = 3 if planned.scale else 2
    with tqdm(total=passes * len(streamed.units(base.transformer[0].model)), desc="layer by layer", unit=" layers", **BAR) as bar:
        wanted = streamed.run(base, tokens, read, planned.change if planned.scale else None, done=bar.update)
        if planned.scale:
            before = streamed.run(base, one, read, done=bar.update).embeddings
            if float(np.abs(wanted.embeddings[:1] - before).max()) <= NOTHING:
                raise MergeError(
                    "the adapter changes no embedding: merged, it would equal the base", where=str(planned.adapter.path),
                    remedy=SAME_AS_BASE,
                )  # fmt: skip
        got = streamed.run(after, tokens, _reader(planned, Weights(written)), done=bar.update)
    allowed = ALLOWED_OF_A_LAYER if planned.exact else 2 * ALLOWED_IN_HALF**0.5
    for name, output in wanted.outputs.items():
        distance = float((got.outputs[name] - output).norm() / output.norm().clamp_min(1e-30))
        if not distance <= allowed:
            raise MergeError(
                "the merged weights do not give the adapter's activations", where=f"{planned.out}: {name}", got=f"{distance:.2e} apart",
                expected=f"at most {allowed:.0e}", remedy="Nothing was written. Please report this with the model's name.",
            )  # fmt: skip
    return _verified(planned, wanted.embeddings, got.embeddings)


def _reader(planned: Plan, weights: Weights) -> streamed.Read:
    """The parameters of the base's body by their names, from these files."""
    parameters = {name: parameter.shape for name, parameter in planned.base.transformer[0].model.named_parameters()}

    def read(name: str) -> Tensor:
        if name in planned.placed:
            return weights[planned.placed[name]]
        return torch.zeros(parameters[name])  # a pooler that the files lack, and no embedding needs

    return read


def _tokens(model: Model, texts: Sequence[str]) -> Tokens:
    """Queries, then documents, of made-up texts and as many of `texts` as there is room for, each cut to its last tokens.

    A prompt may go by that, the end token stays: it is no text that counts here, but weights.
    """
    room = max(LEAST, int(WORK / (2 * model.parameters)))
    longest = min(LONGEST, room // (2 * len(PROBES)))
    texts = [*PROBES, *texts]
    both = model.tokenize(texts, "query"), model.tokenize(texts, "document")
    sides = [[tokens[text][-longest:] for text in range(len(texts))] for tokens in both]
    widest = max(len(ids) for side in sides for ids in side)
    pieces = [ids for side in sides for ids in side[: room // (2 * widest)]]
    return Tokens.of(pieces)


def _verified(planned: Plan, wanted: NDArray[np.float32], got: NDArray[np.float32]) -> Verified:
    """Compare embeddings, queries first and then documents. Raises MergeError where they are further apart than rounding takes them."""
    if not np.isfinite(wanted).all():
        raise MergeError(
            "the adapter's embeddings are not finite", where=str(planned.adapter.path), remedy="Train with a smaller --learning-rate."
        )
    if planned.exact:
        largest = max(1.0, float(np.abs(wanted).max()))  # of embeddings of any length, by which they round
        distance, allowed = float(np.abs(wanted - got).max()) / largest, ALLOWED
    else:
        norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
        distance, allowed = max(0.0, float((1.0 - (wanted * got).sum(axis=1) / norms).max())), ALLOWED_IN_HALF
    if not distance <= allowed:
        raise MergeError(
            "the merged weights do not reproduce the adapter's embeddings", got=f"a distance of {distance:.2e}",
            expected=f"at most {allowed:g}",
            remedy="Nothing was written. Please report this with the model's name.",
        )  # fmt: skip
    half = len(wanted) // 2
    flips, pairs = rank_flips(wanted[:half] @ wanted[half:].T, got[:half] @ got[half:].T)
    return Verified(len(planned.weights.entries), half, distance, flips, pairs)


def rank_flips(before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]]) -> tuple[int, int]:
    """Pairs of documents that a query ranks the other way round, of all pairs that it ranked; scores (queries, documents)."""
    first, second = np.triu_indices(before.shape[1], 1)
    one, other = np.sign(before[:, first] - before[:, second]), np.sign(after[:, first] - after[:, second])
    return int((one * other < 0).sum()), int((one != 0).sum())
