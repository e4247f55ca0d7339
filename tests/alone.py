"""A program in a process of its own that has Homing loaded from its start: to be killed, without the seconds that loading takes."""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

LOADED = ("homing.cli.stages", "homing.runs.stages", "homing.judging", "homing.encoders.endpoint")


def start(program: str, *arguments: object) -> ForkServerProcess:
    """Start Python source text, `arguments` in its sys.argv. What it prints is lost."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    process = context.Process(target=_run, args=(program, [str(each) for each in arguments], str(Path(__file__).parent)), daemon=True)
    process.start()
    return process


def exit_code(program: str, *arguments: object) -> int | None:
    """How such a program ended, minus the signal where one killed it; None where it had not after five minutes."""
    process = start(program, *arguments)
    process.join(300)
    return process.exitcode


def _run(program: str, arguments: list[str], tests: str) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    sys.argv, sys.path = ["alone", *arguments], [tests, *sys.path]
    exec(compile(program, "alone", "exec"), {"__name__": "__main__"})
