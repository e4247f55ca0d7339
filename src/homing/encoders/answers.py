"""What a model was asked, kept as it answers: a call that was killed goes on, and nothing is asked twice."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from homing.errors import ModelError
from homing.progress import BAR


def answers(
    file: Path, questions: int, shard: int, ask: Callable[[slice], NDArray[np.float32]], *, progress: str, unit: str, where: str
) -> NDArray[np.float32]:
    """What `ask` says of so many questions, a shard of them at a time; shape (questions, ...), mapped from `file`, a .npy of float32.

    `file` is named for all that decides the answers: what it holds is taken as it is. Answers are appended as they come, behind a
    header for all of them; where rows are missing, a call was killed, and the whole ones are kept.

    Raises ModelError for an answer that is not finite; `where` names who gave it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    done, size = _whole_rows(file)
    with file.open("r+b" if done else "wb") as handle, tqdm(total=questions, initial=done, desc=progress, unit=unit, **BAR) as bar:
        handle.truncate(size)
        handle.seek(size)
        while done < questions:
            found = np.ascontiguousarray(ask(slice(done, min(done + shard, questions))), dtype=np.float32)
            if not np.isfinite(found).all():
                raise ModelError("the model answers with numbers that are not finite", where=where, remedy="Give another model.")
            handle.write((b"" if done else _header((questions, *found.shape[1:]))) + found.tobytes())
            handle.flush()
            os.fsync(handle.fileno())
            done += len(found)
            bar.update(len(found))
    return np.load(file, mmap_mode="r")  # type: ignore[no-any-return]


def _header(shape: tuple[int, ...]) -> bytes:
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return header.getvalue()


def _whole_rows(file: Path) -> tuple[int, int]:
    """How many whole rows a file of answers has, and the bytes up to the end of the last; 0 and 0 where there is none."""
    try:
        with file.open("rb") as handle:
            np.lib.format.read_magic(handle)
            shape = np.lib.format.read_array_header_1_0(handle)[0]
            start, row = handle.tell(), 4 * int(np.prod(shape[1:]))
    except (OSError, ValueError):  # no file, or killed within its header
        return 0, 0
    rows = (file.stat().st_size - start) // row
    return rows, start + rows * row if rows else 0
