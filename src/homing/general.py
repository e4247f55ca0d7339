"""Sets outside the domain, to see what is forgotten: one made from Python's standard library, NanoBEIR, or the user's own."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from homing.builder import Builder
from homing.data import Dataset
from homing.errors import InputError
from homing.measures.evaluations import Interval
from homing.measures.significance import percentile_interval, resample
from homing.protocols import Encoder
from homing.sample import Sample
from homing.standard_library import some_functions
from homing.verdicts.context import General

MADE, NANO, NONE = "standard-library", "nano-beir", "none"
SETS = (MADE, NANO, NONE)  # names that stand for a set; anything else is the user's own data
FUNCTIONS = 300
NANO_ID = "sentence-transformers/NanoBEIR-en"
NANO_SETS = (
    "NanoClimateFEVER", "NanoDBPedia", "NanoFEVER", "NanoFiQA2018", "NanoHotpotQA", "NanoMSMARCO", "NanoNFCorpus", "NanoNQ",
    "NanoQuoraRetrieval", "NanoSCIDOCS", "NanoArguAna", "NanoSciFact", "NanoTouche2020",
)  # fmt: skip


def open_sets(source: str | None, given: Dataset | None) -> Iterator[tuple[str, Dataset]]:
    """The general sets of this name, or the user's own, which is `given`; None is the one that can be made here.

    Raises InputError where NanoBEIR is wanted and cannot be had, or where this Python has no sources to make a set of.
    """
    if given is not None:
        yield Path(source or "general").stem, given
    elif source == NANO:
        yield from _nano_beir()
    elif source != NONE:
        yield MADE, standard_library()


def standard_library() -> Dataset:
    """Which function does this sentence describe? Some hundred functions of this Python's standard library, each asked for once."""
    builder = Builder()
    for function in some_functions(Path(sysconfig.get_paths()["stdlib"]), FUNCTIONS):
        builder.judge(builder.query(function.sentence), builder.document(function.source), 1)
    return builder.dataset(where="Python's standard library")


def _nano_beir() -> Iterator[tuple[str, Dataset]]:
    try:
        from datasets import load_dataset  # type: ignore[import-untyped]
    except ImportError:
        raise InputError("NanoBEIR is read by the package datasets", expected="datasets", remedy="pip install datasets") from None
    for name in NANO_SETS:
        builder = Builder()
        try:
            corpus, queries, qrels = (load_dataset(NANO_ID, part, split=name) for part in ("corpus", "queries", "qrels"))
        except Exception as error:
            raise InputError(
                "NanoBEIR cannot be had", where=f"{NANO_ID}, {name}", got=f"{type(error).__name__}: {error}"[:200],
                remedy="Set HF_ENDPOINT to a hub that can be reached, or leave --general out: a set is made here.",
            ) from None  # fmt: skip
        documents = {row["_id"]: builder.document(row["text"]) for row in corpus if row["text"].strip()}
        asked = {row["_id"]: builder.query(row["text"]) for row in queries}
        for row in qrels:
            if row["corpus-id"] in documents:
                builder.judge(asked[row["query-id"]], documents[row["corpus-id"]], int(row.get("score", 1)))
        yield name, builder.dataset(where=name)


def measure(name: str, data: Dataset, models: Sequence[Encoder], resamples: int, seed: int) -> General:
    """nDCG@10 of each model over the set's corpus, and the paired difference of the last one to the first; its interval is over queries,
    of which a handful has none.
    """
    sample = Sample.whole(data)
    found = [sample.ndcg(model, f"{model.name}: {name}") for model in models]
    gain = found[-1] - found[0]
    low, high = percentile_interval(resample(len(gain), resamples, seed) @ gain / len(gain), len(gain))
    values = {model.name: float(np.mean(each)) for model, each in zip(models, found, strict=True)}
    return General(name, len(sample.queries), len(sample.documents), values, Interval(float(gain.mean()), low, high))
