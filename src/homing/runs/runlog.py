"""A copy of everything printed, with the time, in run.log."""

from __future__ import annotations

import io
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class _Tee(io.TextIOBase):
    """Writes to a stream and, whole lines only and without what a progress bar overwrote, to a log."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self.stream, self.log, self.line = stream, log, ""

    def write(self, text: str) -> int:
        self.stream.write(text)
        *whole, self.line = (self.line + text).split("\n")
        for line in whole:
            kept = line.rstrip("\r").rsplit("\r", 1)[-1].rstrip()
            self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {kept}\n")
        if whole:
            self.log.flush()
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding


@contextmanager
def logged(file: Path) -> Iterator[None]:
    """Copy everything printed, on both streams, to the end of `file`; and the traceback of an error that passes through."""
    file.parent.mkdir(parents=True, exist_ok=True)
    out, err = sys.stdout, sys.stderr
    with file.open("a", encoding="utf-8") as log:
        sys.stdout, sys.stderr = _Tee(out, log), _Tee(err, log)
        try:
            yield
        except BaseException:
            log.write(traceback.format_exc())
            raise
        finally:
            sys.stdout, sys.stderr = out, err
