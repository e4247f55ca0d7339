"""Every setting, on one page. A setting's help is the command line's help; None means "chosen, and then written down"."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal

from homing.errors import SettingError


def _setting(default: Any, help: str, flag: str = "") -> Any:
    return field(default=default, metadata={"help": help, "flag": flag})


def _demand(holds: bool, name: str, got: object, expected: str) -> None:
    if not holds:
        raise SettingError(f"--{name} is out of range", got=repr(got), expected=expected)


_KINDS: dict[str, type] = {"str": str, "bool": bool}


@dataclass(frozen=True)
class _Settings:
    """What all settings are held to: a number where one belongs, finite, and whole where it counts; text, and true or false, likewise.
    Each kind's `_check` does the rest.

    All of them raise SettingError. The docstring of each kind ends in the help of its fields.
    """

    def __init_subclass__(cls) -> None:
        said = (f"`{name}`: {value.metadata['help']}" for name, value in vars(cls).items() if isinstance(value, Field))
        cls.__doc__ = "\n".join([cls.__doc__ or "", "", *said, "", "Raises SettingError for a value out of range."])

    def __post_init__(self) -> None:
        for each in fields(self):
            value, kinds = getattr(self, each.name), str(each.type).split(" | ")
            number = isinstance(value, Real) and not isinstance(value, bool)
            wanted = value is not None and ("int" in kinds or "float" in kinds)
            name = each.metadata["flag"] or each.name.replace("_", "-")
            if (wanted and not number) or (number and not math.isfinite(value)):
                raise SettingError(f"--{name} is no finite number", got=repr(value), expected=str(each.type))
            if wanted and "float" not in kinds and not isinstance(value, Integral):
                raise SettingError(f"--{name} is no whole number", got=repr(value), expected=str(each.type))
            fits = "None" in kinds if value is None else isinstance(value, _KINDS.get(kinds[0], object))
            if not fits:
                raise SettingError(f"--{name} is of another kind", got=repr(value), expected=str(each.type))
            _demand(name != "seed" or 0 <= value < 1 << 63, name, value, "0 to 2^63 - 1")
            if wanted:  # NumPy's numbers are no JSON, and 3 is 3.0
                object.__setattr__(self, each.name, (float if "float" in kinds else int)(value))
        self._check()

    def _check(self) -> None: ...


POOLINGS = ("lasttoken", "mean", "cls", "max", "weightedmean", "mean_sqrt_len_tokens")


@dataclass(frozen=True)
class Encoding(_Settings):
    """How texts become embeddings. None: what the model's directory says; a prompt that it doesn't name is empty."""

    query_prompt: str | None = _setting(None, "text put before each query")
    document_prompt: str | None = _setting(None, "text put before each document")
    instruction: str | None = _setting(None, "the task: queries become 'Instruct: TASK\\nQuery:...'")
    pooling: str | None = _setting(None, "only for a model that doesn't say: lasttoken, mean, cls ...")
    max_length: int | None = _setting(None, "tokens a text [1024, or the model's own]")
    trust_remote_code: bool = _setting(False, "run code that comes with the model, as you")

    def _check(self) -> None:
        if self.query_prompt is not None and self.instruction is not None:
            raise SettingError("--query-prompt and --instruction exclude each other", remedy="Give one of the two.")
        _demand(self.pooling is None or self.pooling in POOLINGS, "pooling", self.pooling, " or ".join(POOLINGS))
        _demand(self.max_length is None or self.max_length >= 8, "max-length", self.max_length, "8 or more")


@dataclass(frozen=True)
class Splitting(_Settings):
    """How queries are dealt to train, dev and test. Shares are of the queries."""

    by: Literal["group", "query"] = _setting("group", "query: sides may share positives", "split-by")
    dev: float = _setting(0.1, "share of queries for dev", "dev-share")
    test: float = _setting(0.2, "share of queries for test", "test-share")
    seed: int = _setting(42, "seed of everything drawn")

    def _check(self) -> None:
        _demand(self.by in ("group", "query"), "split-by", self.by, "group or query")
        _demand(0 < self.dev < 1, "dev-share", self.dev, "a share between 0 and 1")
        _demand(0 < self.test < 1, "test-share", self.test, "a share between 0 and 1")
        _demand(self.dev + self.test < 1, "test-share", self.test, "dev and test together below 1")


RETRIEVERS = ("list", "bm25", "dense", "fused")


@dataclass(frozen=True)
class Mining(_Settings):
    """Which documents become the negatives of a query's rows: judged ones first, then what a retriever finds in the corpus, then chance."""

    negatives: int = _setting(3, "negatives a row")
    hard: int = _setting(1, "of these, hard ones (the first 10 in rank)", "hard-negatives")
    medium: int = _setting(0, "of these, medium ones; the rest are easy", "medium-negatives")
    retriever: Literal["list", "bm25", "dense", "fused"] | None = _setting(None, "what finds them [by the judgments]")
    first_rank: int = _setting(1, "the corpus ranks that are taken: from here")
    last_rank: int = _setting(100, "to here")
    cap: float = _setting(0.95, "found ones score below this share of the positive's (dense)")
    seed: int = _setting(42, "seed of everything drawn")

    def _check(self) -> None:
        _demand(self.negatives >= 0, "negatives", self.negatives, "0 or more")
        most = max(1, self.negatives)  # the default may stand where no negative is wanted
        _demand(0 <= self.hard <= most, "hard-negatives", self.hard, f"0 to {most} (--negatives)")
        most = max(0, self.negatives - self.hard)
        _demand(0 <= self.medium <= most, "medium-negatives", self.medium, f"0 to {most} (--negatives less --hard-negatives)")
        _demand(self.retriever is None or self.retriever in RETRIEVERS, "retriever", self.retriever, " or ".join(RETRIEVERS))
        _demand(self.first_rank >= 1, "first-rank", self.first_rank, "1 or more")
        _demand(self.last_rank >= self.first_rank, "last-rank", self.last_rank, f"{self.first_rank} (--first-rank) or more")
        _demand(self.cap > 0, "cap", self.cap, "above 0; a large one takes all")


TUNINGS = ("lora", "rslora", "dora", "full")


@dataclass(frozen=True)
class Training(_Settings):
    """What learns, from what, and for how long."""

    train: Literal["both", "queries"] = _setting("both", "queries: documents stay the base's")
    tuning: Literal["lora", "rslora", "dora", "full"] | None = _setting(None, "what learns [by model size]")
    rank: int = _setting(16, "LoRA rank", "lora-rank")
    alpha: float = _setting(32.0, "LoRA alpha", "lora-alpha")
    dropout: float = _setting(0.0, "LoRA dropout", "lora-dropout")
    learning_rate: float | None = _setting(None, "peak learning rate [by model size]")
    epochs: float = _setting(3.0, "passes over the queries")
    minutes: float | None = _setting(None, "train so long instead, evaluations included")
    batch_size: int = _setting(32, "queries an update")
    temperature: float | None = _setting(None, "temperature of the loss [0.05; 1 for embeddings that are not normalised]")
    positives: Literal["each", "sum"] = _setting("each", "each positive alone, or their sum")
    in_batch: bool = _setting(True, "contrast with documents of the batch's other queries")
    margin: float | None = _setting(None, "leave out unjudged documents that score above positive + X")
    hardness: float | None = _setting(None, "weighs harder negatives more, by e^(X * score) [0.25 over the temperature]")
    cross_query: float = _setting(0.0, "weight of the term that aligns scores across queries")
    distill: float = _setting(1.0, "weight of the teacher, where there is one")
    dimensions: str = _setting("", "shorter embeddings to train too, as 256,128")
    weight_decay: float = _setting(0.01, "AdamW, none on biases and norms")
    warmup: float = _setting(0.1, "share of the updates that warm up")
    max_grad_norm: float = _setting(1.0, "gradients are clipped to this norm")
    evaluations: int = _setting(6, "evaluations on dev while training")
    patience: int = _setting(3, "evaluations without a gain before it stops")
    scale: float | None = _setting(None, "share of what was learned that is kept [chosen on dev]")
    report_to: str = _setting("", "trackers, as tensorboard,swanlab")
    seed: int = _setting(42, "seed of everything drawn")

    def _check(self) -> None:
        _demand(self.train in ("both", "queries"), "train", self.train, "both or queries")
        _demand(self.tuning is None or self.tuning in TUNINGS, "tuning", self.tuning, " or ".join(TUNINGS))
        _demand(self.rank >= 1, "lora-rank", self.rank, "1 or more")
        _demand(self.alpha > 0, "lora-alpha", self.alpha, "above 0")
        _demand(0 <= self.dropout < 1, "lora-dropout", self.dropout, "0 to below 1")
        _demand(self.learning_rate is None or 0 < self.learning_rate < 1, "learning-rate", self.learning_rate, "between 0 and 1")
        _demand(self.epochs > 0, "epochs", self.epochs, "above 0")
        _demand(self.minutes is None or self.minutes > 0, "minutes", self.minutes, "above 0")
        _demand(self.batch_size >= 1, "batch-size", self.batch_size, "1 or more")
        _demand(self.temperature is None or self.temperature > 0, "temperature", self.temperature, "above 0")
        _demand(self.positives in ("each", "sum"), "positives", self.positives, "each or sum")
        _demand(self.hardness is None or self.hardness >= 0, "hardness", self.hardness, "0 or more")
        _demand(self.cross_query >= 0, "cross-query", self.cross_query, "0 or more")
        _demand(self.distill >= 0, "distill", self.distill, "0 or more")
        _demand(all(part.strip().isdecimal() for part in self.dimensions.split(",") if part), "dimensions", self.dimensions, "like 256,128")
        _demand(self.weight_decay >= 0, "weight-decay", self.weight_decay, "0 or more")
        _demand(0 <= self.warmup < 1, "warmup", self.warmup, "a share from 0 to below 1")
        _demand(self.max_grad_norm > 0, "max-grad-norm", self.max_grad_norm, "above 0")
        _demand(self.evaluations >= 1, "evaluations", self.evaluations, "1 or more")
        _demand(self.patience >= 1, "patience", self.patience, "1 or more")
        _demand(self.scale is None or 0 <= self.scale <= 1, "scale", self.scale, "0 to 1")

    @property
    def shorter(self) -> list[int]:
        """`dimensions` as numbers, the longest first."""
        return sorted({int(part) for part in self.dimensions.split(",") if part}, reverse=True)


@dataclass(frozen=True)
class Evaluating(_Settings):
    """How models are compared."""

    resamples: int = _setting(1000, "bootstrap resamples behind each interval")
    top_k: int = _setting(100, "documents retrieved a query")
    measures: str = _setting("", "further measures, as 'P(rel=2)@5,R@50'")
    worthwhile: float = _setting(0.02, "the smallest gain in nDCG@10 worth having")
    bm25: bool = _setting(True, "BM25, and each model fused with it, beside the models")
    slice_by: str = _setting("", "columns of the data to slice by, as topic,source")
    seed: int = _setting(42, "seed of everything drawn")

    def _check(self) -> None:
        _demand(self.resamples >= 100, "resamples", self.resamples, "100 or more")
        _demand(self.top_k >= 10, "top-k", self.top_k, "10 or more")
        _demand(0 < self.worthwhile < 1, "worthwhile", self.worthwhile, "between 0 and 1")


@dataclass(frozen=True)
class Auditing(_Settings):
    """Which negatives are listed as likely relevant."""

    top: int = _setting(200, "negatives listed, the likeliest first")
    queries: int | None = _setting(None, "audit so many queries, drawn [all]")
    seed: int = _setting(42, "seed of everything drawn")

    def _check(self) -> None:
        _demand(self.top >= 1, "top", self.top, "1 or more")
        _demand(self.queries is None or self.queries >= 1, "queries", self.queries, "1 or more")


@dataclass(frozen=True)
class Comparing(_Settings):
    """What a run trains beside its model, to tell more about it."""

    seeds: int = _setting(1, "trainings, each under a seed of its own")
    learning_curve: bool = _setting(False, "train on 25 and 50 % of it too")
    anew: bool = _setting(True, "with --from: train from the base too, and compare")

    def _check(self) -> None:
        _demand(1 <= self.seeds <= 100, "seeds", self.seeds, "1 to 100")


@dataclass(frozen=True)
class Judging(_Settings):
    """How a model judges what an audit listed."""

    rubric: str | None = _setting(None, "en, zh, or a file of your own [by the queries' language]")
    task: str = _setting("", "what the documents are retrieved for, in a sentence")
    relevant: int = _setting(3, "grade from which a document becomes a positive; 2: unsure below it", "relevant-from")
    known: int = _setting(20, "known judgments that the judge is tried on first, half of them positives")
    kappa: float = _setting(0.4, "least agreement with those (Cohen's kappa) to go on", "least-kappa")
    limit: int | None = _setting(None, "judge so many of the list [all]")
    per_minute: float | None = _setting(None, "requests a minute at most", "requests-per-minute")
    concurrency: int = _setting(4, "requests under way at a time")
    price: str = _setting("", "of a million tokens in and out, as 0.15,0.6")
    seed: int = _setting(42, "seed of everything drawn")

    def _check(self) -> None:
        _demand(self.relevant in (2, 3), "relevant-from", self.relevant, "2 or 3")
        _demand(self.known >= 2, "known", self.known, "2 or more")
        _demand(-1 <= self.kappa <= 1, "least-kappa", self.kappa, "-1 to 1")
        _demand(self.limit is None or self.limit >= 1, "limit", self.limit, "1 or more")
        _demand(self.per_minute is None or self.per_minute > 0, "requests-per-minute", self.per_minute, "above 0")
        _demand(1 <= self.concurrency <= 64, "concurrency", self.concurrency, "1 to 64")
        _demand(not self.price or len(self.prices) == 2, "price", self.price, "two numbers, like 0.15,0.6")

    @property
    def prices(self) -> tuple[float, ...]:
        """Of a token in and of one out; empty where no price is known."""
        try:
            return tuple(float(part) / 1e6 for part in self.price.split(",") if part.strip())
        except ValueError:
            return ()


@dataclass(frozen=True)
class Serving(_Settings):
    """How a model is served. The API key is the environment's HOMING_API_KEY, never a setting."""

    host: str = _setting("127.0.0.1", "address to listen on; others can reach 0.0.0.0")
    port: int = _setting(8000, "port to listen on; 0: any that is free")
    name: str = _setting("", "what clients call the model [the directory's name]")
    dimensions: str = _setting("", "shorter embeddings to give, as 512,256 [those the directory names]")
    truncate: bool = _setting(False, "cut a text that is too long, in place of an error")
    token_arrays: bool = _setting(False, "take token ids as input: the model's own, special tokens included")
    max_texts: int = _setting(2048, "texts a request")
    max_megabytes: float = _setting(8.0, "size of a request")
    max_waiting: int = _setting(8192, "texts that may wait; beyond that, 429")
    timeout: float = _setting(60.0, "seconds that a request may take")

    def _check(self) -> None:
        _demand(0 <= self.port <= 65535, "port", self.port, "0 to 65535")
        _demand(all(part.strip().isdecimal() for part in self.dimensions.split(",") if part), "dimensions", self.dimensions, "like 512,256")
        _demand(self.max_texts >= 1, "max-texts", self.max_texts, "1 or more")
        _demand(self.max_megabytes > 0, "max-megabytes", self.max_megabytes, "above 0")
        _demand(self.max_waiting >= self.max_texts, "max-waiting", self.max_waiting, f"{self.max_texts} (--max-texts) or more")
        _demand(self.timeout > 0, "timeout", self.timeout, "above 0")


@dataclass(frozen=True)
class Reporting(_Settings):
    """How the report is written."""

    language: Literal["en", "zh"] = _setting("en", "first language of the report")
    texts: bool = _setting(True, "the data's texts in the report, or none of them")

    def _check(self) -> None:
        _demand(self.language in ("en", "zh"), "language", self.language, "en or zh")
