"""Judged candidate lists of a size that people have, loaded: seconds, and the most memory that a process of its own held (Linux).

    python benchmarks/loading.py [--queries 100000] [--candidates 20]

Made text: half of the candidates occur in one list alone, the others in many. Arms: homing.load on a JSON array, JSONL and Parquet;
beside it what a script does, `json.load` of the array, and `datasets.load_dataset` of the JSONL (into an Arrow file on disk).
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ARMS = {
    "homing, JSON": ("lists.json", "import homing; data = homing.load(path); print(len(data.qrels), len(data.corpus))"),
    "homing, JSONL": ("lists.jsonl", "import homing; data = homing.load(path); print(len(data.qrels), len(data.corpus))"),
    "homing, Parquet": ("lists.parquet", "import homing; data = homing.load(path); print(len(data.qrels), len(data.corpus))"),
    "json.load": ("lists.json", "import json; data = json.load(open(path, encoding='utf-8')); print(len(data))"),
    "datasets": (
        "lists.jsonl",
        "import datasets; data = datasets.load_dataset('json', data_files=path, split='train', cache_dir=path + '.d'); print(len(data))",
    ),
}
MEASURE = """
import sys, time
path = sys.argv[1]
start = time.perf_counter()
{code}
seconds = time.perf_counter() - start
print(seconds, next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) * 1024)
"""


def made(queries: int, candidates: int, folder: Path) -> None:
    """Write the same lists as JSON, JSONL and Parquet."""
    from homing.formats.writing import write_records

    generator = np.random.default_rng(0)
    words = np.array(["".join(generator.choice(list("abcdefghijklmnopqrstuvwxyz"), size)) for size in generator.integers(2, 10, 20_000)])
    shared = [" ".join(generator.choice(words, 40)) for _ in range(50_000)]

    def lists() -> object:
        draw = np.random.default_rng(1)
        for number in range(queries):
            texts = [shared[at] for at in draw.integers(0, len(shared), candidates // 2)]
            texts += [" ".join(draw.choice(words, 40)) for _ in range(candidates - len(texts))]
            listed = [{"content": text, "is_relevant": place % 5 == 0} for place, text in enumerate(texts)]
            yield {"query": f"{number} " + " ".join(draw.choice(words, 8)), "content_private": listed}

    write_records(folder / "lists.jsonl", lists())  # type: ignore[arg-type]
    for name in ("lists.json", "lists.parquet"):
        with (folder / "lists.jsonl").open(encoding="utf-8") as file:
            write_records(folder / name, map(json.loads, file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made(options.queries, options.candidates, Path(folder))
        print(
            f"{platform.platform()}, Python {platform.python_version()}; {options.queries:,} queries of {options.candidates} candidates\n"
        )
        print("| arm | file, MB | seconds | peak memory, MB |\n|---|--:|--:|--:|")
        for arm, (name, code) in ARMS.items():
            path = Path(folder) / name
            done = subprocess.run([sys.executable, "-c", MEASURE.format(code=code), str(path)], capture_output=True, text=True)
            if done.returncode:
                print(f"| {arm} | | failed: {done.stderr.strip().splitlines()[-1][:80]} | |")
                continue
            seconds, peak = map(float, done.stdout.split("\n")[-2].split())
            print(f"| {arm} | {path.stat().st_size / 1e6:,.0f} | {seconds:.1f} | {peak / 1e6:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
