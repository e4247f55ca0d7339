"""The command line: a verb a stage, its options made from settings.py."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from homing.cli import comparison, conversion, exports, judgments, runs, servers, stages
from homing.cli.verbs import cli
from homing.errors import HomingError, first_line

_PLACE = "Check the path that was given and its permissions."
_ROOM = "Make room, or give a place with more; what is finished is kept, and the same command goes on."
_MEMORY = (
    "End what else takes memory there, or try --tuning lora, a smaller --batch-size, --max-length or --model; "
    "what is finished is kept, and the same command goes on."
)
_SYSTEM: dict[int, str] = {
    **dict.fromkeys(
        (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG), _PLACE
    ),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _ROOM),
    errno.ENOMEM: _MEMORY,
}

__all__ = ["cli", "comparison", "conversion", "exports", "judgments", "main", "runs", "servers", "stages"]


def main(arguments: Sequence[str] | None = None) -> None:
    """The `homing` command. Exit codes: 0 done, 1 failed, 2 unusable input, 3 a server that differs."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        cli.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except HomingError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        number = _errno(error)
        if number is None or number not in _SYSTEM:
            _report(error)
        named = first_line(error) if number == errno.ENOMEM and str(error) else getattr(error, "filename", None)
        place = f"{named}: " if named is not None else ""
        click.echo(f"{place}the system refuses: {os.strerror(number)}.\n{_SYSTEM[number]}", err=True)
        sys.exit(1)


def _errno(error: Exception) -> int | None:
    """What the system refused: an OSError says it, a library written in Rust, such as safetensors, only in its words.

    Memory is refused in ways of their own by Python, NumPy and PyTorch.
    """
    if isinstance(error, OSError):
        return error.errno
    if said := re.search(r"\(os error (\d+)\)", str(error)):
        return int(said[1])
    from homing.encoders.devices import ran_out  # here alone, for it loads torch

    return errno.ENOMEM if ran_out(error) else None


def _report(error: Exception) -> NoReturn:
    traceback.print_exc()
    click.echo(f"This is a fault in Homing ({type(error).__name__}), not in your data: please report it with the lines above.", err=True)
    sys.exit(1)
