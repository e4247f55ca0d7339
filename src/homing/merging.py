"""Merge an adapter into its base's weights: planned, written a file at a time, verified; nothing is handed over unverified.

Only one file's tensors are in memory at once, so that a model larger than memory can be merged. What was written is read again and
compared with W + scale (W' - W), tensor by tensor. Then texts are embedded with the adapter on the base and with the written directory:
by its own reader where the model fits into memory, else layer by layer.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from homing.encoders import adapter as adapters
from homing.encoders import streamed
from homing.encoders.adapter import Adapter
from homing.encoders.change import Change, change_of
from homing.encoders.directory import CONVENTIONS
from homing.encoders.memory import available
from homing.encoders.model import Model, Tokens
from homing.encoders.pair import Pair, open_model, write_document_model
from homing.encoders.safety import body
from homing.encoders.weights import Weights, set_dtype, write_shards
from homing.errors import MergeError, ModelError, ResourceError, SettingError
from homing.manifest import demand_replaceable, replace_directory
from homing.progress import BAR
from homing.shipping.card import DEPLOYING, write_card
from homing.shipping.layout import write_layout
from homing.shipping.origin import Origin, Verified, licence

Scale = float | Literal["auto"]
Say = Callable[[str], None]

PROBES = (
    "how do I reset my password",
    "Ice floats because it is less dense than the water around it.",
    "保证期间是确定保证人承担保证责任的期间，不发生中止、中断和延长。",
    "find . -name '*.py' -mtime -1 | xargs grep -l TODO",
)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ROOM = 1.5  # times a model's float32 weights: what the free memory must hold for it to be loaded whole
ALLOWED, ALLOWED_IN_HALF = 1e-5, 1e-2  # of a number; of 1 - cosine
ALLOWED_OF_A_LAYER = 1e-4  # of the length of a layer's output, in float32
LOST_IN_HALF = 2.0**-9  # of a tensor's length: more than rounding takes, and float16's range does


@dataclass(frozen=True, eq=False)
class Plan:
    """What a merge will do. Making one reads heads of files alone and writes nothing.

    `changed` are the names in the base's files of the weights that change, with their names in the model; `chosen` says who chose the
    scale; `dtype` is the number format of the written weights, None to keep each tensor's own.
    """

    base: Model
    adapter: Adapter
    out: Path
    scale: float
    chosen: str
    dtype: torch.dtype | None
    weights: Weights
    placed: dict[str, str]
    change: Change

    @cached_property
    def changed(self) -> dict[str, str]:
        """Parameters that change, by their names in the files; none at scale 0."""
        return {self.placed[name]: name for name in self.change.names} if self.scale else {}

    @property
    def target(self) -> torch.dtype:
        """The number format that most written numbers are in."""
        return self.dtype or self.weights.dtype

    @property
    def size(self) -> int:
        """Bytes of the weights to be written."""
        return sum(
            entry.size
            if self.dtype is None or not entry.dtype.is_floating_point
            else entry.size // entry.dtype.itemsize * self.dtype.itemsize
            for entry in self.weights.entries.values()
        )

    @property
    def whole(self) -> bool:
        """Whether the model can be loaded whole to be verified."""
        device = torch.device("cpu") if self.base.device.type == "meta" else self.base.device
        return available(device) >= ROOM * torch.float32.itemsize * self.base.parameters

    def tensor(self, name: str) -> Tensor:
        """A tensor as it shall be written. Raises MergeError where it is not finite, or where float16 cannot hold it."""
        weight = self.weights[name]
        if name in self.changed:
            weight = self.change.apply(self.changed[name], weight.float())
            if not torch.isfinite(weight).all():
                raise MergeError(
                    "the merged weights are not finite", where=f"{self.adapter.weights}: {self.changed[name]}",
                    remedy="Train with a smaller --learning-rate.",
                )  # fmt: skip
        if not weight.is_floating_point():
            return weight
        target = self.dtype or self.weights.entries[name].dtype
        rounded = weight.to(target)
        if target == torch.float16 and weight.dtype != torch.float16:
            _demand_in_range(weight.float(), rounded, name)
        return rounded

    def __str__(self) -> str:
        kept = {str(entry.dtype).removeprefix("torch.") for entry in self.weights.entries.values() if entry.dtype.is_floating_point}
        target = " and ".join(sorted(kept)) + ", as the base" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        files = ", ".join(self.weights.files[:3]) + (", …" if len(self.weights.files) > 3 else "")
        way = "whole, by the directory's own reader" if self.whole else "layer by layer: it doesn't fit into free memory"
        side = ["side     queries alone: documents stay those of the base"] if self.adapter.side == "queries" else []
        return "\n".join(
            [
                f"base     {self.base.source}: {len(self.weights.entries):,} tensors, {self.base.parameters:,} parameters",
                f"adapter  {self.adapter.path}: {self.adapter.tuning}, {len(self.changed):,} tensors change",
                *side,
                f"scale    {self.scale:g}, {self.chosen}",
                f"format   {target}",
                f"files    {len(self.weights.files)} ({files}), {self.size / 2**30:.3f} GiB",
                f"verify   each tensor, then embeddings {way}",
                f"out      {self.out}" + (" (replaced)" if self.out.exists() else ""),
            ]
        )


def plan(
    base: Model, adapter: Adapter, *, out: str | Path = "runs/model", scale: Scale | None = None, dtype: torch.dtype | str | None = None
) -> Plan:
    """What merging `adapter` into a copy of `base` will do; `base` may be without weights, on the device "meta".

    Raises ModelError for an adapter of another base (digest, names or shapes), or trained under other conventions; SettingError for a
    scale outside of 0 to 1, or an unknown number format; ResourceError where the disk is too small.
    """
    out = Path(out)
    scale, chosen = _scale(adapter, scale)
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise SettingError("the number format is unknown", got=dtype, expected=" or ".join(DTYPES))
        dtype = DTYPES[dtype]
    _same_conventions(base, adapter)
    if base.change != "":
        raise ModelError("the base has an adapter on it", where=base.name, remedy="Detach it, or give the base's directory.")
    demand_replaceable(out, DEPLOYING)
    if out.resolve() in (base.path.resolve(), adapter.path.resolve()):
        raise SettingError("--out is what is merged", got=str(out), remedy="Give --out another name.")
    weights = Weights(body(base.path))
    shapes = {name: tuple(parameter.shape) for name, parameter in base.transformer[0].model.named_parameters()}
    change, placed = change_of(adapter, scale), weights.place(shapes)
    change.demand_fit(shapes, str(base.path))
    for name in change.names:
        if name not in placed:
            raise ModelError(
                "the weight is not in the base's files under its name", where=str(weights.directory), got=name,
                remedy="Save the base once with sentence-transformers (save_pretrained), and train on that.",
            )  # fmt: skip
    made = Plan(base, adapter, out, scale, chosen, dtype, weights, placed, change)
    parent = next(parent for parent in out.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(parent).free
    if free < made.size:
        raise ResourceError(
            "the disk is too small for the merged model", where=str(parent), got=f"{free / 2**30:.1f} GiB free",
            expected=f"{made.size / 2**30:.1f} GiB", remedy="Give another --out, or --dtype bfloat16.",
        )  # fmt: skip
    return made


def write(planned: Plan, texts: Sequence[str] = ()) -> Origin:
    """Do what was planned, verified: the directory `planned.out` appears whole, or is left as it was.

    `texts`, a few real ones, are embedded beside made-up ones. Raises MergeError where what was written is not the adapter on its base,
    or equals the base at any scale but 0.
    """
    base = planned.base
    with replace_directory(planned.out, DEPLOYING) as fresh:
        write_layout(base, fresh)
        if planned.dtype is not None:
            set_dtype(fresh / "config.json", planned.dtype)
        with tqdm(total=planned.size, desc="write", unit="B", unit_scale=True, **BAR) as bar:
            write_shards(planned.weights, fresh, planned.tensor, bar.update)
        _verify_tensors(planned, Weights(fresh))
        texts = [*PROBES, *texts]
        verified = _verify_whole(planned, fresh, texts) if planned.whole else _verify_layers(planned, fresh, texts)
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

    `texts` (a few real ones; some made-up ones are added) are embedded by the adapter on the base and by the directory loaded afresh:
    the two must be equal (1e-5 for float32; 1e-2 cosine distance for a half-precision directory) and, at any scale but 0, differ from
    the base. What is larger than memory is compared layer by layer.

    An adapter of queries alone gives a query encoder; `homing.json` in its directory names the base that its documents keep.

    Raises what `plan` and `write` raise; `out` is then left as it was.
    """
    write(plan(base, adapter, out=out, scale=scale, dtype=dtype), texts)
    loaded = base.device if base.device.type != "meta" else None
    return open_model(
        out, documents=base if loaded else None, device=loaded, dtype=base.dtype, name=f"{base.name}, tuned",
        trust_remote_code=base.trust_remote_code,
    )  # fmt: skip


def _scale(adapter: Adapter, scale: Scale | None) -> tuple[float, str]:
    """The scale, and who chose it."""
    if scale is not None and scale != "auto":
        if not 0 <= scale <= 1:
            raise SettingError("the scale is out of range", got=repr(scale), expected="0 to 1, or auto")
        return float(scale), "as asked for"
    own = adapter.scale
    if "scale" not in adapter.conventions:
        return own, "the adapter's whole change: it names no scale"
    file = adapter.path.parent / "training" / "scales.json"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        measured = {float(each["scale"]): float(each["dev_nDCG@10"]) for each in said["scales"]}
        if float(said["chosen"]) == own:
            best = max(measured, key=lambda each: measured[each])
            return own, (
                f"chosen on dev ({said['queries']} queries; nDCG@10 {measured[own]:.4f}, the best {measured[best]:.4f} at {best:g}; {file})"
            )
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return own, f"as the adapter says ({adapter.path / CONVENTIONS})"


def _same_conventions(base: Model, adapter: Adapter) -> None:
    said = adapter.conventions
    now = {"prompts": dict(base.prompts), "pooling": base.pooling, "max_length": base.max_length}
    for name, remedy in (
        ("prompts", "Give --query-prompt, --document-prompt or --instruction as in training."),
        ("pooling", "Give --pooling as in training."),
        ("max_length", "Give --max-length as in training."),
    ):
        if name in said and said[name] != now[name]:
            raise ModelError(
                f"the adapter was trained under another {name.replace('_', ' ')}", where=str(adapter.path),
                got=repr(now[name]), expected=repr(said[name]), remedy=remedy,
            )  # fmt: skip
    if "base_digest" in said and said["base_digest"] != base.weights_digest:
        raise ModelError(
            "the adapter was trained under another base digest", where=str(adapter.path), got=repr(base.weights_digest),
            expected=repr(said["base_digest"]), remedy="Give the base that the adapter was trained on.",
        )  # fmt: skip


def _demand_in_range(weight: Tensor, rounded: Tensor, name: str) -> None:
    """float16 holds 6e-8 to 65,504: what lies outside is infinite or 0, and what lies near its lower end loses digits."""
    lost = float((rounded.float() - weight).norm() / weight.norm().clamp_min(1e-30))
    if not torch.isfinite(rounded).all() or lost > LOST_IN_HALF:
        raise MergeError(
            "float16 cannot hold the weights", where=name, got=f"up to {float(weight.abs().max()):.3g}, {lost:.1e} of the tensor lost",
            expected=f"finite values, at most {LOST_IN_HALF:.1e}", remedy="Give --dtype bfloat16 or float32.",
        )  # fmt: skip


def _verify_tensors(planned: Plan, written: Weights) -> None:
    """Each tensor, read again, is the one that was planned, and a change has not been rounded away in all of them."""
    if written.entries.keys() != planned.weights.entries.keys():
        names = written.entries.keys() ^ planned.weights.entries.keys()
        raise MergeError("the written weights are not those of the base", where=str(planned.out), got=f"{sorted(names)[0]} on one side")
    moved = survived = 0
    with tqdm(total=planned.size, desc="verify", unit="B", unit_scale=True, **BAR) as bar:
        for name in planned.weights.entries:
            wanted, got = planned.tensor(name), written[name]
            if got.dtype != wanted.dtype or not torch.equal(got, wanted):
                raise MergeError(
                    "a written weight is not W + scale (W' - W)", where=f"{planned.out}: {name}", remedy="Nothing was kept: check the disk."
                )
            if name in planned.changed:
                base = planned.weights[name]
                exact = planned.change.apply(planned.changed[name], base.float())
                moved += not torch.equal(exact, base.float())
                survived += not torch.equal(got, base.to(got.dtype))
            bar.update(got.nbytes)
    if planned.changed and not moved:
        raise MergeError(
            "the adapter changes nothing: merged, it would equal the base", where=str(planned.adapter.path),
            remedy="Train longer or with a larger --learning-rate; the base itself is what there is to deploy.",
        )  # fmt: skip
    if planned.changed and not survived:
        raise MergeError(
            "the change is too small for the number format: merged, it would equal the base", where=str(planned.adapter.path),
            got=str(planned.target).removeprefix("torch."), remedy="Give --dtype float32.",
        )  # fmt: skip


def _verify_whole(planned: Plan, written: Path, texts: Sequence[str]) -> Verified:
    """The adapter on the base, and the written directory by its own reader, embed texts alike."""
    base = planned.base
    device = torch.device("cpu") if base.device.type == "meta" else base.device
    same = base.device.type != "meta" and base.dtype == torch.float32
    work = base if same else base.again(device, torch.float32)
    before = _embed(work, texts)
    tuning = adapters.load(work, planned.adapter, planned.scale)
    wanted = _embed(work, texts)
    tuning.detach()
    del work, tuning
    gc.collect()
    if planned.scale and float(np.abs(wanted - before).max()) <= 1e-6:
        raise MergeError(
            "the adapter changes no embedding: merged, it would equal the base", where=str(planned.adapter.path),
            remedy="Train longer or with a larger --learning-rate; the base itself is what there is to deploy.",
        )  # fmt: skip
    reloaded = Model(written, device=device, dtype=torch.float32, trust_remote_code=base.trust_remote_code)
    if (reloaded.prompts, reloaded.pooling, reloaded.max_length) != (base.prompts, base.pooling, base.max_length):
        raise MergeError(
            "the written directory says other conventions than the base", where=str(planned.out),
            got=f"{reloaded.prompts}, {reloaded.pooling}, {reloaded.max_length}",
            expected=f"{base.prompts}, {base.pooling}, {base.max_length}",
        )  # fmt: skip
    got = _embed(reloaded, texts)
    return _verified("whole", planned, wanted, got, "the written directory, loaded afresh, does")


def _verify_layers(planned: Plan, written: Path, texts: Sequence[str]) -> Verified:
    """The adapter on the base, and the written weights, give alike activations after each layer, and alike embeddings."""
    base = planned.base
    parameters = {name: parameter.shape for name, parameter in base.transformer[0].model.named_parameters()}
    after = Weights(written)

    def reader(source: Callable[[str], Tensor]) -> streamed.Read:
        def read(name: str) -> Tensor:
            if name in planned.placed:
                return source(planned.placed[name]).float()
            return torch.zeros(parameters[name])  # a pooler that the files lack, and no embedding needs

        return read

    texts = texts[: streamed.TEXTS]
    queries, documents = base.tokenize(texts, "query"), base.tokenize(texts, "document")
    tokens = _first(queries, documents)
    with tqdm(total=2, desc="layer by layer", **BAR) as bar:
        wanted = streamed.run(base, tokens, reader(planned.weights.__getitem__), planned.change if planned.scale else None)
        bar.update()
        got = streamed.run(base, tokens, reader(after.__getitem__))
        bar.update()
    for name, output in wanted.outputs.items():
        distance = float((got.outputs[name] - output).norm() / output.norm().clamp_min(1e-30))
        allowed = ALLOWED_OF_A_LAYER if _exact(planned) else 2 * ALLOWED_IN_HALF**0.5
        if not distance <= allowed:
            raise MergeError(
                "the merged weights do not give the adapter's activations", where=f"{planned.out}: {name}", got=f"{distance:.2e} apart",
                expected=f"at most {allowed:.0e}", remedy="Nothing was written. Please report this with the model's name.",
            )  # fmt: skip
    return _verified("layers", planned, wanted.embeddings, got.embeddings, "the merged weights do")


def _first(*tokens: Tokens) -> Tokens:
    """The texts of all of these, each cut to its last tokens: a prompt may go, the end token stays."""
    pieces = [each[index][-streamed.TOKENS :] for each in tokens for index in range(len(each))]
    return Tokens(np.concatenate(pieces), np.cumsum([0, *map(len, pieces)]))


def _embed(model: Model, texts: Sequence[str]) -> NDArray[np.float32]:
    return np.concatenate([model.encode(texts, "query"), model.encode(texts, "document")])


def _exact(planned: Plan) -> bool:
    return all(
        (planned.dtype or entry.dtype).itemsize >= torch.float32.itemsize
        for entry in planned.weights.entries.values()
        if entry.dtype.is_floating_point
    )


def _verified(way: str, planned: Plan, wanted: NDArray[np.float32], got: NDArray[np.float32], what: str) -> Verified:
    """Compare embeddings, queries first and then documents. Raises MergeError where they are further apart than rounding takes them."""
    if not np.isfinite(wanted).all():
        raise MergeError(
            "the adapter's embeddings are not finite", where=str(planned.adapter.path), remedy="Train with a smaller --learning-rate."
        )
    if _exact(planned):
        distance, allowed = float(np.abs(wanted - got).max()), ALLOWED
    else:
        norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
        distance, allowed = max(0.0, float((1.0 - (wanted * got).sum(axis=1) / norms).max())), ALLOWED_IN_HALF
    if not distance <= allowed:
        raise MergeError(
            f"{what} not reproduce the adapter's embeddings", got=f"a distance of {distance:.2e}", expected=f"at most {allowed:g}",
            remedy="Nothing was written. Please report this with the model's name and the versions in manifest.json.",
        )  # fmt: skip
    half = len(wanted) // 2
    flips, pairs = rank_flips(wanted[:half] @ wanted[half:].T, got[:half] @ got[half:].T)
    return Verified(way, len(planned.weights.entries), half, distance, flips, pairs)


def rank_flips(before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]]) -> tuple[int, int]:
    """Pairs of documents that a query ranks the other way round, of all pairs that it ranked; scores (queries, documents)."""
    first, second = np.triu_indices(before.shape[1], 1)
    one, other = np.sign(before[:, first] - before[:, second]), np.sign(after[:, first] - after[:, second])
    return int((one * other < 0).sum()), int((one != 0).sum())
