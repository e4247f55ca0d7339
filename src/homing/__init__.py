"""Homing aligns a text-embedding model with one retrieval task and proves that it did.

    import homing
    from homing import Evaluating, Mining, Model, Training

    data = homing.load("data/insurance.json")
    train, dev, test = homing.split(data, seed=42)
    base = Model("Qwen/Qwen3-Embedding-0.6B")
    mined = homing.mine(train, Mining(negatives=3))
    adapter = homing.train(base, mined, dev, Training(rank=16))
    tuned = homing.merge(base, adapter)
    found = homing.evaluate([base, tuned], dev, test, Evaluating())
    homing.report(*found, out="report.html")

    path      load, check, split, mine, train, merge, evaluate, compare, report, serve; run does a whole Recipe
              (compare is the verdict on evaluations of one test set; the command `homing compare` sets whole runs side by side)
    data      Corpus, Queries, Qrels, Dataset; Splits; Mined
    models    Model, Adapter; Pair, and open_model, which gives a Model or a Pair
    found     Evaluation; Verdict
    settings  Encoding, Splitting, Mining, Training, Evaluating, Comparing, Reporting, Serving
    errors    HomingError, the base of all that Homing raises

These names are imported on first use: `import homing` loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from homing.checking import check
    from homing.data import Corpus, Dataset, Mined, Qrels, Queries, Splits
    from homing.encoders.adapter import Adapter
    from homing.encoders.model import Model
    from homing.encoders.pair import Pair, open_model
    from homing.errors import HomingError
    from homing.evaluating import evaluate
    from homing.loading import load
    from homing.measures.evaluations import Evaluation
    from homing.merging import merge
    from homing.mining import mine
    from homing.reporting import report
    from homing.runs.pipeline import run
    from homing.runs.recipe import Recipe
    from homing.serving import serve
    from homing.settings import Comparing, Encoding, Evaluating, Mining, Reporting, Serving, Splitting, Training
    from homing.splitting import split
    from homing.training.train import train
    from homing.verdicts.verdict import Verdict, compare

__version__ = "0.1.0"

_PLACES = {
    "homing.checking": ("check",),
    "homing.data": ("Corpus", "Dataset", "Mined", "Qrels", "Queries", "Splits"),
    "homing.encoders.adapter": ("Adapter",),
    "homing.encoders.model": ("Model",),
    "homing.encoders.pair": ("Pair", "open_model"),
    "homing.errors": ("HomingError",),
    "homing.evaluating": ("evaluate",),
    "homing.measures.evaluations": ("Evaluation",),
    "homing.loading": ("load",),
    "homing.merging": ("merge",),
    "homing.mining": ("mine",),
    "homing.runs.pipeline": ("run",),
    "homing.runs.recipe": ("Recipe",),
    "homing.reporting": ("report",),
    "homing.serving": ("serve",),
    "homing.settings": ("Comparing", "Encoding", "Evaluating", "Mining", "Reporting", "Serving", "Splitting", "Training"),
    "homing.splitting": ("split",),
    "homing.training.train": ("train",),
    "homing.verdicts.verdict": ("Verdict", "compare"),
}
_PLACE = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Adapter", "Comparing", "Corpus", "Dataset", "Encoding", "Evaluating", "Evaluation", "HomingError", "Mined", "Mining", "Model", "Pair",
    "Qrels", "Queries", "Recipe", "Reporting", "Serving", "Splits", "Splitting", "Training", "Verdict", "check", "compare", "evaluate",
    "load", "merge", "mine", "open_model", "report", "run", "serve", "split", "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACE:
        raise AttributeError(f"module 'homing' has no attribute {name!r}")
    value = getattr(import_module(_PLACE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
