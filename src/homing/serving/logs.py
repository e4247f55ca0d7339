"""A line of JSON an event, on standard error: never a text that was sent, never a key."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

LOGGER = logging.getLogger("homing.serving")
NAMES = ("homing.serving", "uvicorn.error", "asyncio")


class Lines(logging.Formatter):
    """A record as one line. Of an exception it says the type and the places, not the message, which may quote what was sent."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage().strip().partition("\n")[0],
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0] is not None:
            said["error"], said["at"] = record.exc_info[0].__name__, places(record.exc_info[2])
        return orjson.dumps(said).decode()


def places(trace: TracebackType | None) -> list[str]:
    """File, line and function of each frame, outermost first."""
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]


def log(event: str, level: int = logging.INFO, *, error: BaseException | None = None, **fields: Any) -> None:
    """One line, where this level is logged."""
    LOGGER.log(level, event, extra={"fields": fields}, exc_info=error)


def to_standard_error() -> None:
    """Send the server's lines, uvicorn's and asyncio's to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in NAMES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "homing.serving" else logging.WARNING)
