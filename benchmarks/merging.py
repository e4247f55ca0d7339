"""How much memory a merge takes: Qwen3-Embedding's configurations with random weights, and a LoRA on every projection, merged and verified.

    python benchmarks/merging.py --size 0.6B --out benchmarks/results/merging.md
    python benchmarks/merging.py --size 8B --out benchmarks/results/merging.md     # 16 GB written twice, and read five times
    python benchmarks/merging.py --size tiny                                       # a check in seconds, printed

Each merge is a process of its own; the peak is its resident memory's high-water mark, mapped pages of the files included. Rows of another
size in the file are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from homing import Model
from homing.encoders.tuning import conventions
from homing.manifest import versions, write_json
from homing.shipping.layout import POOLING_FLAGS
from runs import machine

END = "<|endoftext|>"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANK, ALPHA, SPREAD, LENGTH = 16, 32, 0.02, 1024
HEAD = """# Merging

Peak resident memory and time of `homing merge` in a process of its own, verification included: random bfloat16 weights in the
configuration of Qwen3-Embedding, a LoRA of rank 16 on all seven projections of each layer (benchmarks/merging.py).

| size | parameters | files | written | apart | peak memory | seconds | machine |
|---|---|---|---|---|---|---|---|
"""
MERGE = """
import json, sys
from pathlib import Path
from homing import Adapter, Model
from homing.encoders.memory import peak
from homing.merging import plan, write
base, adapter, out, dtype = sys.argv[1:]
adapter = Adapter(Path(adapter))
said = adapter.conventions
planned = plan(Model(base, device="meta", max_length=said["max_length"]), adapter, out=out, dtype=dtype or None)
verified = write(planned).verified
print(json.dumps({"distance": verified.distance, "peak": peak(), "bytes": planned.size}))
"""


@dataclass(frozen=True)
class Shape:
    """A configuration of Qwen3-Embedding, and into how many files its weights go."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    groups: int
    head: int
    vocabulary: int
    files: int


SHAPES = {
    "tiny": Shape(64, 128, 3, 2, 1, 64, 512, 3),
    "0.6B": Shape(1024, 3072, 28, 16, 8, 128, 151669, 1),
    "4B": Shape(2560, 9728, 36, 32, 8, 128, 151665, 2),
    "8B": Shape(4096, 12288, 36, 32, 8, 128, 151665, 4),
}


def made_model(shape: Shape, directory: Path) -> Path:
    """Write a model of this shape with random bfloat16 weights, a file at a time."""
    directory.mkdir(parents=True)
    config = Qwen3Config(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.groups, head_dim=shape.head, max_position_embeddings=32768,
    )  # fmt: skip
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Qwen3Model(config).state_dict().items()}
    names, placed = list(shapes), {}
    generator = torch.Generator().manual_seed(0)
    for index in range(shape.files):
        own = names[index * len(names) // shape.files : (index + 1) * len(names) // shape.files]
        file = "model.safetensors" if shape.files == 1 else f"model-{index + 1:05d}-of-{shape.files:05d}.safetensors"
        save_file({name: _random(shapes[name], generator) for name in own}, directory / file, metadata={"format": "pt"})
        placed.update(dict.fromkeys(own, file))
    if shape.files > 1:
        write_json(directory / "model.safetensors.index.json", {"metadata": {}, "weight_map": placed})
    said = {"architectures": ["Qwen3ForCausalLM"], "torch_dtype": "bfloat16", "rope_theta": 1000000, "use_sliding_window": False}
    write_json(directory / "config.json", {**json.loads(config.to_json_string(use_diff=False)), **said})
    _tokenizer(directory)
    kinds = ("Transformer", "Pooling", "Normalize")
    write_json(
        directory / "modules.json",
        [
            {"idx": index, "name": str(index), "path": f"{index}_{kind}" if index else "", "type": f"sentence_transformers.models.{kind}"}
            for index, kind in enumerate(kinds)
        ],
    )
    (directory / "1_Pooling").mkdir()
    flags = {flag: mode == "lasttoken" for mode, flag in POOLING_FLAGS.items()}
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": shape.hidden, **flags, "include_prompt": True})
    prompts = {"query": "Instruct: Retrieve what answers the question\nQuery:", "document": ""}
    write_json(directory / "config_sentence_transformers.json", {"prompts": prompts, "similarity_fn_name": "cosine"})
    return directory


def _random(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Norms near 1, everything else with the spread that Qwen3 is initialised with."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    return (SPREAD * torch.randn(shape, generator=generator)).bfloat16()


def _tokenizer(directory: Path) -> None:
    """Bytes as tokens, closed by the end token: any text has ids that each vocabulary holds."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([END])
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    tokenizer.save(str(directory / "tokenizer.json"))
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": END,
        "eos_token": END,
        "padding_side": "left",
        "model_max_length": 32768,
    }
    write_json(directory / "tokenizer_config.json", said)


def made_adapter(base: Path, directory: Path) -> Path:
    """A LoRA on every projection, its change a few per cent of the weights, with the conventions of the base."""
    directory.mkdir(parents=True)
    model = Model(base, device="meta", max_length=LENGTH)
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=RANK, lora_alpha=ALPHA, target_modules=list(PROJECTIONS))
    config.save_pretrained(str(directory))
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, parameter in model.transformer[0].model.named_parameters():
        if name.split(".")[-2] in PROJECTIONS:
            rows, columns = parameter.shape
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator) / columns**0.5
            tensors[f"{stem}.lora_B.weight"] = 0.05 * SPREAD * torch.randn(rows, RANK, generator=generator) * (columns / RANK) ** 0.5
    save_file(tensors, directory / "adapter_model.safetensors")
    write_json(directory / "homing.json", conventions(model) | {"tuning": "lora", "scale": 1.0})
    return directory


def measured(size: str, base: Path, adapter: Path, work: Path, dtype: str) -> str:
    """A merge in a process of its own, as a row of the table."""
    out = work / "merged"
    began = time.perf_counter()
    told = [sys.executable, "-c", MERGE, str(base), str(adapter), str(out), dtype]
    done = subprocess.run(told, capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr)
    said = json.loads(done.stdout.splitlines()[-1])
    unit = "in a number" if dtype == "float32" else "in cosine"
    shutil.rmtree(out)
    parameters = Model(base, device="meta").parameters
    return (
        f"| {size} | {parameters:,} | {SHAPES[size].files} | {dtype or 'bfloat16'}, {said['bytes'] / 2**30:.2f} GiB | "
        f"{said['distance']:.1e} {unit} | {said['peak'] / 2**30:.2f} GiB | {seconds:.0f} | {machine()} |"
    )


def main() -> None:
    """Make, merge, measure; print the rows, and add them to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="0.6B")
    parser.add_argument("--dtypes", default="", help="number formats to write, as bfloat16,float32 [both for 0.6B and tiny, else bfloat16]")
    parser.add_argument("--work", type=Path, help="where models are made, and removed again [a temporary directory]")
    parser.add_argument("--out", type=Path, help="file for the result")
    asked = parser.parse_args()
    dtypes = (asked.dtypes or ("bfloat16,float32" if asked.size in ("tiny", "0.6B") else "bfloat16")).split(",")
    with tempfile.TemporaryDirectory(dir=asked.work) as place:
        work = Path(place)
        base = made_model(SHAPES[asked.size], work / "base")
        adapter = made_adapter(base, work / "adapter")
        rows = []
        for dtype in dtypes:
            rows.append(measured(asked.size, base, adapter, work, dtype))
            print(rows[-1], flush=True)
    if asked.out:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        said = versions()
        used = ", ".join(f"{name} {said[name]}" for name in ("torch", "transformers", "safetensors", "peft") if name in said)
        before = asked.out.read_text(encoding="utf-8") if asked.out.is_file() else HEAD
        kept = [line for line in before.split("\n\nVersions: ")[0].splitlines() if not line.startswith(f"| {asked.size} |")]
        table = "\n".join([*kept, *rows])
        asked.out.write_text(f"{table}\n\nVersions: {used}.\n", encoding="utf-8")


if __name__ == "__main__":
    main()
