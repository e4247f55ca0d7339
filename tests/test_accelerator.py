"""What a training asks of an accelerator, without one: on_accelerator.py in a process of its own, whose default device is a made one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_an_update_keeps_to_the_accelerator_and_waits_for_nothing() -> None:
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests / "on_accelerator.py")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, cwd=tests.parent)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
