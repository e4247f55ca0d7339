"""A training step of Homing beside those of sentence-transformers' trainer and of the blog's script: same rows, same LoRA.

    python benchmarks/training_speed.py                       # four sets, caps 256 and 512: benchmarks/results/training_speed.md
    python benchmarks/training_speed.py --sets en-bash --caps 256 --steps 4 --rounds 1
    python benchmarks/training_speed.py --table               # the page once more from training_speed.jsonl

Each measurement is a process of its own (its peak memory is the arm's), and the arms take turns, so that whatever else the machine does
hits all alike. 16 rows a step, LoRA of rank 16 without dropout; the base's own dropout is off for every arm. Tokenising the texts counts
for every arm. "By length" is its trainer with a batch sampler that puts rows of like length together: the trainer's own
`train_sampling_strategy` does not reach its batches. The blog's step costs the same whatever the rows hold: it takes fewer.
With queries only, a step encodes its queries and sets them against the whole corpus of the training split, encoded beforehand.

Useful arithmetic is counted once for each distinct, unpadded token of a step, nothing for padding, for repeated texts or for a second
forward pass: 4 floating-point operations a token and frozen weight (2 forward, 2 back to the activations), 6 a token and LoRA weight (2
more for its gradient), and 12 x layers x length^2 x width a text for attention (scores and weighted sums: 2 x 2 forward, twice that back).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch import Tensor, nn
from transformers import TrainerCallback

import homing
from homing import Model, Training
from homing.batches import Groups
from homing.data import Ints, Mined
from homing.encoders import memory
from homing.loading import load
from homing.losses import Contrast
from homing.manifest import versions
from peers import blog, lora, st
from peers.rows import Rows
from quality import RESULTS, SHARED, append, lines, minilm
from runs import machine

SETS = ("en-medical", "en-bash", "zh-statute", "zh-cli")
CAPS = (256, 512)
BATCH = 16
RATE = 1e-4
KINDS: tuple[Any, ...] = ("query", "document")
MOST_BLOG_STEPS = 2  # and one to warm up


@dataclass(frozen=True)
class Work:
    """What an arm is to do: so many steps that count, after so many that do not."""

    base: Path
    cap: int
    mined: Mined
    warm_up: int
    steps: int

    @property
    def rows(self) -> Rows:
        return Rows.of(self.mined)

    def fresh(self) -> tuple[SentenceTransformer, list[nn.Parameter]]:
        """The base with LoRA, ready to train, and what learns."""
        model = SentenceTransformer(str(self.base), device="cpu", model_kwargs={"dtype": torch.float32})
        model.max_seq_length = self.cap
        lora.attach(model, 0, dropout=0.0)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        model.train()
        return model, [parameter for parameter in model.parameters() if parameter.requires_grad]


@dataclass(frozen=True)
class Timed:
    """Seconds of the steps that count, and the texts (kind, text) of each of them, with all repetitions."""

    seconds: float
    rows: int
    steps: list[list[tuple[str, str]]]


class _Stopwatch(TrainerCallback):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        self.at: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.at.append(time.perf_counter())


class ByLength(DefaultBatchSampler):  # type: ignore[misc, unused-ignore]
    """Rows of like length together, the batches in an order drawn anew each epoch."""

    noted: list[list[int]]

    def __init__(self, dataset: Any, *others: Any, **named: Any) -> None:
        super().__init__(dataset, *others, **named)
        self.letters = [sum(map(len, row.values())) for row in dataset]

    def __iter__(self) -> Iterator[list[int]]:
        order = np.argsort(self.letters, kind="stable")
        batches = [order[start : start + self.batch_size].tolist() for start in range(0, len(order), self.batch_size)]
        for number in np.random.default_rng([self.seed, self.epoch]).permutation(len(batches)).tolist():
            self.noted.append(batches[number])
            yield batches[number]

    def __len__(self) -> int:
        return math.ceil(len(self.letters) / BATCH)


def st_steps(work: Work, mini_batch: int, by_length: bool = False) -> Timed:
    """The trainer of sentence-transformers; `mini_batch` 0: the loss that is not cached."""
    model, trained = work.fresh()
    rows = work.rows
    settings = st.Settings(RATE, batch=BATCH, mini_batch=mini_batch)
    watch = _Stopwatch()
    noted: list[list[int]] = []
    with st.quiet():
        adam = torch.optim.AdamW(trained, lr=RATE)
        optimizers = adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1.0)
        with tempfile.TemporaryDirectory() as place:
            prompts, steps = {"query": "", "document": ""}, work.warm_up + work.steps
            data = st.columns_of(rows)
            made = st.trainer(model, data, prompts, settings, 0, Path(place), optimizers, watch, noted, steps)
            if by_length:
                made.args.batch_sampler = type("Noting", (ByLength,), {"noted": noted})
            made.train()
    counted = noted[work.warm_up : work.warm_up + work.steps]
    before = watch.at[work.warm_up - 1]
    return Timed(watch.at[-1] - before, sum(map(len, counted)), [[text for row in batch for text in rows.texts(row)] for batch in counted])


def blog_steps(work: Work) -> Timed:
    """The blog's step, every text padded to the cap."""
    model, trained = work.fresh()
    rows = work.rows
    optimizer = torch.optim.AdamW(trained, lr=RATE)
    warm_up, steps = min(1, work.warm_up), min(MOST_BLOG_STEPS, work.steps)
    batches = [list(range(start, start + BATCH)) for start in range(0, (warm_up + steps) * BATCH, BATCH)]
    began = time.perf_counter()
    for number, batch in enumerate(batches):
        if number == warm_up:
            began = time.perf_counter()
        blog.step(model, rows.part(batch), {"query": "", "document": ""}, 0.05)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - began
    return Timed(seconds, steps * BATCH, [[text for row in batch for text in rows.texts(row)] for batch in batches[warm_up:]])


def homing_step(model: Model, settings: Training, fixed: NDArray[np.float32] | None) -> Callable[[Mined, Ints], None]:
    """One update of Homing as `homing.train` makes it, as a function of rows and the groups (queries) it takes; tokenising included.

    `fixed` (documents, dimension): embeddings of the corpus where queries alone learn.
    """
    from homing.encoders import tuning as tunings
    from homing.training.fixed import against
    from homing.training.objective import Objective

    tuning = tunings.tune(model, settings)
    step, objective = tuning.step(), Objective(settings, model.dimension)
    trained = step.parameters
    optimizer = torch.optim.AdamW(trained, lr=RATE, fused=True)

    def update(mined: Mined, groups: Ints) -> None:
        batch = Groups(mined).batch(groups, mined.negative)
        texts = [mined.train.queries.texts[query] for query in batch.queries.tolist()]
        tokens, queries = model.tokenize(texts, "query"), len(texts)
        if fixed is None:
            told = model.tokenize([mined.train.corpus.texts[document] for document in batch.documents.tolist()], "document")
            offsets = np.concatenate([tokens.offsets, tokens.offsets[-1] + told.offsets[1:]])
            tokens, stand = replace(tokens, ids=np.concatenate([tokens.ids, told.ids]), offsets=offsets), None
            relevance = torch.from_numpy(batch.relevance)
        else:
            documents, relation = against(batch, mined, settings.seed, 0)
            relevance, stand = torch.from_numpy(relation), torch.from_numpy(fixed[documents])

        def loss(made: Tensor) -> Contrast:
            return objective(made[:queries], made[queries:] if stand is None else stand, relevance)

        step.gradients(tokens, np.arange(len(tokens)), loss, 0)
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.step()

    return update


def homing_steps(work: Work, queries_only: bool = False) -> Timed:
    """Homing's step, on whole queries with together up to 16 rows."""
    mined, model, fixed = work.mined, Model(work.base, device="cpu"), None
    if queries_only:  # any will do: what is counted is a step's time
        fixed = np.random.default_rng(0).normal(size=(len(mined.train.corpus), model.dimension)).astype(np.float32)
        fixed /= np.linalg.norm(fixed, axis=1, keepdims=True)
    update = homing_step(model, Training(tuning="lora", dropout=0.0, train="queries" if queries_only else "both"), fixed)
    _, sizes = np.unique(mined.query, return_counts=True)
    batches: list[list[int]] = [[]]
    for group, size in enumerate(sizes.tolist()):
        if sum(sizes[batches[-1]]) + size > BATCH and batches[-1]:
            batches.append([])
        batches[-1].append(group)
    batches = batches[: work.warm_up + work.steps]
    began = time.perf_counter()
    for number, groups in enumerate(batches):
        if number == work.warm_up:
            began = time.perf_counter()
        update(mined, np.array(groups, dtype=np.int32))
    seconds = time.perf_counter() - began
    rows, of_group = Rows.of(mined), np.repeat(np.arange(len(sizes)), sizes)
    counted = [np.flatnonzero(np.isin(of_group, groups)).tolist() for groups in batches[work.warm_up :]]
    encoded = ("query",) if queries_only else KINDS
    steps = [[text for row in batch for text in rows.texts(row) if text[0] in encoded] for batch in counted]
    return Timed(seconds, sum(map(len, counted)), steps)


ARMS: dict[str, Callable[[Work], Timed]] = {
    "blog": blog_steps,
    "st, MNRL": lambda work: st_steps(work, 0),
    "st, MNRL by length": lambda work: st_steps(work, 0, by_length=True),
    "st, cached MNRL": lambda work: st_steps(work, BATCH),
    "homing": homing_steps,
    "homing, queries only": lambda work: homing_steps(work, queries_only=True),
}


def at_cap(model: Path, cap: int, place: Path) -> Path:
    """The model as if its directory said this length."""
    place.mkdir(parents=True)
    for file in model.iterdir():
        if file.name != "sentence_bert_config.json":
            (place / file.name).symlink_to(file.resolve())
    (place / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": cap, "do_lower_case": False}), encoding="utf-8")
    return place


def drawn(mined: Mined, rows: int, seed: int = 0) -> Mined:
    """At least so many rows that have all their negatives: whole queries, drawn by the seed, in that order."""
    whole = np.flatnonzero((mined.negative >= 0).all(axis=1))
    order = np.random.default_rng(seed).permutation(np.unique(mined.query[whole]))
    sizes = np.bincount(mined.query[whole], minlength=int(order.max()) + 1)[order]
    taken = np.sort(order[: int(np.searchsorted(np.cumsum(sizes), rows)) + 1])
    keep = whole[np.isin(mined.query[whole], taken)]
    columns = {name: getattr(mined, name)[keep] for name in ("query", "positive", "negative", "kind", "rank", "score", "judged")}
    return replace(mined, **columns)


def useful(model: Model, steps: Sequence[Sequence[tuple[str, str]]]) -> tuple[int, float]:
    """Distinct, unpadded tokens of the steps, and the floating-point operations that they are worth (see the top)."""
    body = model.transformer[0].model
    linears = [module for name, module in body.named_modules() if isinstance(module, nn.Linear) and "pooler" not in name]
    frozen = sum(linear.weight.numel() for linear in linears)
    adapted = sum(lora.RANK * sum(linear.weight.shape) for linear in linears)
    config = body.config
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    tokens, operations = 0, 0.0
    for texts in steps:
        distinct = list(dict.fromkeys(texts))
        lengths = np.concatenate([model.tokenize([text for of, text in distinct if of == kind], kind).lengths for kind in KINDS])
        tokens += int(lengths.sum())
        operations += (4.0 * frozen + 6.0 * adapted) * float(lengths.sum())
        operations += 12.0 * config.num_hidden_layers * width * float((lengths.astype(float) ** 2).sum())
    return tokens, operations


def matmul_rate(seconds: float = 1.0) -> float:
    """Floating-point operations a second of fp32 matrix products of a layer's shapes, the fastest of what fits into the time."""
    left, right = torch.randn(1024, 384), torch.randn(384, 1536)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(4):
            left @ right
        best = min(best, (time.perf_counter() - began) / 4)
    return 2.0 * 1024 * 384 * 1536 / best


def measure(arm: str, data: Path, model: Path, cap: int, warm_up: int, steps: int) -> dict[str, Any]:
    """One measurement, in this process."""
    mined = drawn(homing.mine(load(data / "train.json")), BATCH * (warm_up + steps + 1))
    with tempfile.TemporaryDirectory() as place:
        base = at_cap(model, cap, Path(place) / "base")
        before = memory.peak()
        timed = ARMS[arm](Work(base, cap, mined, warm_up, steps))
        peak = memory.peak()
        tokens, operations = useful(Model(base, device="cpu"), timed.steps)
    return {
        "set": data.name, "cap": cap, "arm": arm, "seconds": timed.seconds, "steps": len(timed.steps), "rows": timed.rows, "tokens": tokens,
        "operations": operations, "peak_bytes": peak, "before_bytes": before, "matmul_rate": matmul_rate(),
        "threads": torch.get_num_threads(), "machine": machine(), "versions": versions(),
    }  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """One arm on one set at one cap, all rounds together. Speeds are per second; `share` is of the matrix rate; `peak` in bytes."""

    rows: float
    tokens: float
    share: float
    peak: float

    @classmethod
    def of(cls, some: Sequence[dict[str, Any]], rate: float) -> Summary:
        seconds = sum(line["seconds"] for line in some)
        total = {name: sum(line[name] for line in some) / seconds for name in ("rows", "tokens", "operations")}
        return cls(total["rows"], total["tokens"], total["operations"] / rate, max(line["peak_bytes"] for line in some))


def table(found: Sequence[dict[str, Any]]) -> str:
    """All measurements as Markdown, with the geometric means of Homing's ratios to every other arm.

    The matrix rate is the highest of those measured at the same cap.
    """
    if not found:
        raise SystemExit("nothing was measured")
    places = list(dict.fromkeys((line["set"], line["cap"]) for line in found))
    caps = list(dict.fromkeys(cap for _, cap in places))
    rates = {cap: max(line["matmul_rate"] for line in found if line["cap"] == cap) for cap in caps}
    by_place = {
        (*place, arm): Summary.of(some, rates[place[1]])
        for place, arm in product(places, ARMS)
        if (some := [line for line in found if (line["set"], line["cap"], line["arm"]) == (*place, arm)])
    }
    first = found[-1]
    parts = [
        "# A training step beside the peers'", "",
        f"{first['machine']}, {first['threads']} thread(s), "
        + " and ".join(f"{rate / 1e9:.0f} (cap {cap})" for cap, rate in rates.items()) + " GFLOPS in fp32 matrix products; "
        + ", ".join(f"{name} {version}" for name, version in first["versions"].items() if name != "platform") + ".", "",
        f"{BATCH} rows a step (a query, a positive, 3 negatives), LoRA of rank {lora.RANK}; useful tokens are distinct and unpadded.", "",
        "| set | cap | arm | rows/s | useful tokens/s | of the matrix rate | peak memory, GB |", "|---|--:|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    for (name, cap, arm), its in by_place.items():
        cells = f"{its.rows:.2f} | {its.tokens:,.0f} | {its.share:.1%} | {its.peak / 1e9:.2f}"
        parts.append(f"| {name} | {cap} | {arm} | {cells} |")
    parts += [
        "",
        "Homing, with documents, against each: geometric means over the sets, and the set where it does worst.",
        "",
        "| cap | against | rows/s | worst | peak memory | worst |",
        "|--:|---|--:|--:|--:|--:|",
    ]
    for which, arm in product([*([cap] for cap in caps), *([caps] if len(caps) > 1 else [])], ARMS):
        both = [
            (by_place[name, its, "homing"], by_place[name, its, arm])
            for name, its in places
            if its in which and not arm.startswith("homing") and {(name, its, "homing"), (name, its, arm)} <= by_place.keys()
        ]
        if both:
            speed = np.log([own.rows / other.rows for own, other in both])
            memory = np.log([own.peak / other.peak for own, other in both])
            ratios = [(speed.mean(), speed.min()), (memory.mean(), memory.max())]
            cells = [f"{np.exp(mean):.2f} x | {np.exp(worst):.2f} x" for mean, worst in ratios]
            parts.append(f"| {' and '.join(map(str, which))} | {arm} | {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="a folder of folders with a train.json")
    parser.add_argument("--model", type=Path, help="the base model's directory (all-MiniLM-L6-v2)")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--caps", nargs="+", type=int, default=list(CAPS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--warm-up", type=int, default=2, help="steps that do not count, 1 or more")
    parser.add_argument("--steps", type=int, default=8, help="steps that count")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each arm, the arms taking turns")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--one", action="store_true", help="measure the one arm, set and cap given in this process, and print a line")
    parser.add_argument("--table", action="store_true", help="only write the page again")
    said = parser.parse_args(arguments)
    file = said.results / "training_speed.jsonl"
    if said.table:
        _write(file)
        return
    if lacking := [name for name in said.sets if not (said.data / name / "train.json").is_file()]:
        parser.error(f"no train.json in {said.data / lacking[0]}: --data names a folder, --sets folders in it")
    model = said.model or minilm()
    if said.threads:
        torch.set_num_threads(said.threads)
    if said.one:
        (arm,), (name,), (cap,) = said.arms, said.sets, said.caps
        print(json.dumps(measure(arm, said.data / name, model, cap, said.warm_up, said.steps)))
        return
    file.unlink(missing_ok=True)
    for _, name, cap, arm in product(range(said.rounds), said.sets, said.caps, said.arms):
        told = ["--data", said.data, "--model", model, "--sets", name, "--caps", cap, "--arms", arm, "--warm-up", said.warm_up]
        told += ["--steps", said.steps, "--one", *(["--threads", said.threads] if said.threads else [])]
        done = subprocess.run([sys.executable, str(Path(__file__)), *map(str, told)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{arm} on {name} at {cap} failed:\n{done.stderr}")
        line = json.loads(done.stdout.splitlines()[-1])
        append(file, line)
        print(f"{name:12}{cap:4}  {arm:20}{line['rows'] / line['seconds']:8.2f} rows/s  {line['peak_bytes'] / 1e9:.2f} GB", flush=True)
    _write(file)


def _write(file: Path) -> None:
    text = table(lines(file))
    file.with_suffix(".md").write_text(text, encoding="utf-8")
    print("\n" + text)


if __name__ == "__main__":
    main()
