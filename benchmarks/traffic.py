"""What a training step of the 0.6B Qwen3-Embedding moves through an accelerator's memory: bytes a token and layer, counted, not timed.

    python benchmarks/traffic.py        # on any machine with Homing's tests beside it; a minute

A GPU multiplies matrices so fast that the work between the products, which reads and writes every activation, takes as long or longer:
an H100 has some 200 operations of its matrix units for each byte of its memory. So these bytes are what a step has to save. They are
counted on the accelerator without numbers (tests/accelerator.py): the model has Qwen/Qwen3-Embedding-0.6B's widths in bfloat16 under LoRA
r 16, one chunk of the texts of benchmarks/gpu.py goes forward and back, and each operation counts what it reads and writes; what three
layers take beyond one, by two, is a layer's. RMSNorm's, SiLU's and Homing's own kernels, which a made device lacks, are put in
as one operation each. `library` is transformers' own passes with PEFT's LoRA, without padding; `homing` is what a training runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

import gpu
from homing.encoders import lean
from homing.encoders.fused import fuse
from homing.encoders.memory import saved_bytes
from homing.encoders.model import Model

TESTS = Path(__file__).resolve().parents[1] / "tests"
VIEWS = {
    "_unsafe_view", "alias", "as_strided", "detach", "device", "empty", "empty_like", "expand", "permute", "select", "slice", "split",
    "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view",
}  # fmt: skip
CHUNK = 16_384  # tokens
KEPT = "kept for the way back"
PRODUCTS = ("mm", "addmm", "addmm_")

_kernels = torch.library.Library("kernels", "DEF")
for _name, _takes in {
    "rms_norm": 2,
    "rms_norm_backward": 3,
    "silu": 1,
    "silu_backward": 2,
    "gate": 2,
    "turn": 3,
    "norm_turn": 4,
    "norm_turn_backward": 5,
}.items():
    _kernels.define(f"{_name}({', '.join(f'Tensor t{place}' for place in range(_takes))}) -> Tensor")
    torch.library.register_fake(f"kernels::{_name}", lambda *given: torch.empty_like(given[0]), lib=_kernels)
_kernels.define("gate_backward(Tensor t0, Tensor t1, Tensor t2) -> (Tensor, Tensor)")
torch.library.register_fake("kernels::gate_backward", lambda *given: (torch.empty_like(given[1]), torch.empty_like(given[2])), lib=_kernels)


class _Ours:
    """Homing's own kernels, as an operation each; on the host, where trials compare numbers, in PyTorch's."""

    @staticmethod
    def gated(gate: Tensor, up: Tensor) -> Tensor:
        return nn.functional.silu(gate) * up if gate.device.type == "cpu" else torch.ops.kernels.gate(gate, up)

    gated_back = torch.ops.kernels.gate_backward

    @staticmethod
    def turned(
        x: Tensor, cos: Tensor, sin: Tensor, *, back: bool = False, weight: Tensor | None = None, eps: float = 0.0,
        states: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        if x.device.type == "cpu":
            return lean._turned(x if weight is None else lean.rms_norm(x, weight, eps), cos, sin, back=back)
        if weight is None:
            return torch.ops.kernels.turn(x, cos, sin)
        return (
            torch.ops.kernels.norm_turn_backward(states, x, cos, sin, weight) if back else torch.ops.kernels.norm_turn(x, cos, sin, weight)
        )


class _Kernel(torch.autograd.Function):
    """One operation forward, and one back for its first input."""

    @staticmethod
    def forward(ctx: Any, name: str, *given: Tensor) -> Tensor:
        ctx.name = name
        ctx.save_for_backward(*given)
        return getattr(torch.ops.kernels, name)(*given)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Any, ...]:
        given = ctx.saved_tensors
        return None, getattr(torch.ops.kernels, f"{ctx.name}_backward")(gradients[0], *given), *[None] * (len(given) - 1)


class Traffic(TorchDispatchMode):
    """Bytes on the accelerator that each operation reads and writes, by its name; a number that is repeated is read once."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        if "pin_memory" in str(func):
            return args[0].clone()
        out = func(*args, **(kwargs or {}))
        name = func.name().split("::")[1].split(".")[0]
        if name not in VIEWS:
            for each in tree_leaves((args, kwargs, out)):
                if isinstance(each, Tensor) and each.device.type != "cpu":
                    distinct = [size for size, stride in zip(each.shape, each.stride(), strict=True) if stride]
                    self.moved[name] += int(np.prod(distinct, dtype=np.int64)) * each.element_size()
        return out


def moved(layers: int, made_lean: bool) -> tuple[Counter[str], int]:
    """Bytes by operation of one chunk, forward and back, with what is kept between the two; and its tokens."""
    sys.path.append(str(TESTS))
    import accelerator

    scale = gpu.real()
    config = scale.config
    config.num_hidden_layers, config.layer_types, config.vocab_size = layers, config.layer_types[:layers], 512
    rows = gpu.Rows.made(replace(scale, config=config), 64, 3)
    with tempfile.TemporaryDirectory() as folder:
        path = gpu.write_model(Path(folder), config, torch.device("cpu"), torch.bfloat16)
        model = Model(path, device="cpu", dtype=torch.bfloat16)
    tuned = gpu.adapt(model.transformer[0].model, with_peft=True)
    if made_lean:
        fuse(tuned)
    lengths = rows.tokens.lengths
    silu = patch.object(nn.functional, "silu", lambda x, inplace=False: _Kernel.apply("silu", x))
    ours = patch.object(lean, "kernels", lambda device: (_Ours if made_lean else None, ""))
    norm = patch.object(nn.functional, "rms_norm", lambda x, shape, weight, eps: _Kernel.apply("rms_norm", x, weight))
    with accelerator.accelerator(), ours:
        accelerator.to_accelerator(model, made_lean=made_lean)
        chunk = next(iter(model.chunks(lengths, CHUNK)))
        with silu, norm, Traffic() as traffic:
            with saved_bytes() as saved:
                embedded = model.embed(rows.tokens, chunk)
            torch.autograd.backward(embedded, torch.empty_like(embedded))
    traffic.moved[KEPT] = saved.total
    return traffic.moved, int(lengths[chunk].sum())


def a_layer(made_lean: bool) -> dict[str, float]:
    """KB a token and layer, by operation."""
    (one, tokens), (three, _) = moved(1, made_lean), moved(3, made_lean)
    found = {name: (count - one[name]) / 2 / tokens / 1000 for name, count in three.items()}
    return {name: size for name, size in found.items() if size > 0.05}


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    library, homing = (a_layer(made_lean) for made_lean in tqdm((False, True), desc="counting", unit="side"))
    print(f"torch {torch.__version__}; KB a token and layer\n\n| operation | library | homing |\n|---|--:|--:|")
    all_names = (library.keys() | homing.keys()) - {KEPT}
    for name in sorted(all_names, key=lambda name: -max(library.get(name, 0), homing.get(name, 0))):
        print(f"| {name} | {library.get(name, 0):.0f} | {homing.get(name, 0):.0f} |")
    for what, names in (("products", PRODUCTS), ("all else", all_names - set(PRODUCTS)), (KEPT, {KEPT})):
        print(f"| **{what}** | {' | '.join(f'{sum(side.get(name, 0) for name in names):.0f}' for side in (library, homing))} |")


if __name__ == "__main__":
    main()
