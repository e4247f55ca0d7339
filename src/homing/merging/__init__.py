"""Merge an adapter into its base's weights: planned, written a file at a time, verified; nothing is handed over unverified.

| module | holds |
|---|---|
| `planning` | what a merge will do, and each tensor as it shall be written |
| `verification` | what was written is the adapter on its base: tensor by tensor, then layer by layer |
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from homing.arguments import demand, demand_texts
from homing.encoders.adapter import Adapter
from homing.encoders.model import Model
from homing.encoders.pair import Pair, open_model, write_document_model
from homing.encoders.weights import Weights, set_dtype, write_shards
from homing.manifest import replace_directory
from homing.merging.planning import Plan, Scale, plan
from homing.merging.verification import verify_layers, verify_tensors
from homing.progress import BAR
from homing.shipping.card import DEPLOYING, write_card
from homing.shipping.layout import write_layout
from homing.shipping.origin import Origin, licence

__all__ = ["Plan", "merge", "plan", "write"]


def write(planned: Plan, texts: Sequence[str] = ()) -> Origin:
    """Do what was planned, verified: the directory `planned.out` appears whole, or is left as it was.

    A few of `texts`, real ones, are run through both beside made-up ones. Raises MergeError where what was written is not the adapter on
    its base, or equals the base at any scale but 0.
    """
    base = planned.base
    with replace_directory(planned.out, DEPLOYING) as fresh:
        write_layout(base, fresh)
        if planned.dtype is not None:
            set_dtype(fresh / "config.json", planned.dtype)
        with tqdm(total=planned.size, desc="write", unit="B", unit_scale=True, **BAR) as bar:
            write_shards(planned.weights, fresh, planned.tensor, bar.update)
        verify_tensors(planned, Weights(fresh))
        verified = verify_layers(planned, fresh, texts)
        origin = Origin(
            base.source, base.weights_digest, licence(base.path), planned.adapter.side, planned.adapter.tuning, planned.adapter.digest,
            planned.scale, planned.chosen, str(planned.target).removeprefix("torch."), len(planned.changed), verified,
        )  # fmt: skip
        origin.write(fresh)
        if planned.adapter.side == "queries":
            write_document_model(fresh, base)
        write_card(fresh)
    return origin


def merge(
    base: Model, adapter: Adapter, *, out: str | Path = "runs/model", texts: Sequence[str] = (), scale: Scale | None = None,
    dtype: torch.dtype | str | None = None,
) -> Model | Pair:  # fmt: skip
    """Merge `adapter` into a copy of `base` and write it to `out`; returns the written model, loaded from there.

    W + scale (W' - W) for the base's weights W and the learned W', in float32, saved in the number format of the base's own weights, or
    as `dtype`; for a LoRA that is W + scale (alpha / r) B A. `scale` is by default ("auto") the adapter's own, which dev chose; 0 keeps
    the base, weight for weight.

    What was written is read again and compared tensor by tensor; then a few texts (made-up ones, and as many of `texts` as are run in
    seconds) go through the base with the adapter beside its weights and through what was written, a layer in memory at a time. The
    activations after each layer must be alike, and the embeddings equal (1e-5 for float32; 1e-2 cosine distance for a half-precision
    directory) and, at any scale but 0, differ from the base's.

    An adapter of queries alone gives a query encoder; `homing.json` in its directory names the base that its documents keep.

    Raises what `plan` and `write` raise; `out` is then left as it was.
    """
    demand(Model, base=base)
    demand(Adapter, adapter=adapter)
    demand_texts(texts)
    write(plan(base, adapter, out=out, scale=scale, dtype=dtype), texts)
    loaded = base.device if base.device.type != "meta" else None
    return open_model(
        out, documents=base if loaded else None, device=loaded, dtype=base.dtype, name=f"{base.name}, tuned",
        trust_remote_code=base.trust_remote_code,
    )  # fmt: skip
