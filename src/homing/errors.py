"""Errors that name the place, what was there, what was expected, and the remedy.

HomingError
├── InputError (ValueError)        the user's input; exit code 2
│   ├── FormatError                a file that cannot be read as its format
│   ├── JudgmentError              judgments that contradict the texts or lack what is needed
│   ├── SplitError                 a split that cannot be made, or that leaks
│   ├── SettingError               a setting out of its range, or settings that exclude each other
│   └── ModelError                 a model directory that cannot be used as it stands
│       └── PoolingError           a directory that does not say how it pools, or says it wrongly
├── ResourceError (RuntimeError)   the run cannot fit into this machine
├── TrainingError (RuntimeError)   training went wrong (a loss that is not finite)
├── MergeError (RuntimeError)      a merge that is not the adapter, or that is the base
├── EndpointError (RuntimeError)   a server that cannot be reached, or that answers with what embeddings cannot be
├── NotFittedError (RuntimeError)  a search before `fit`
└── RunError (RuntimeError)        a run directory that is in use or foreign
"""

from __future__ import annotations

from typing import Any


class HomingError(Exception):
    """The base of every error that Homing raises on purpose.

    `what` says what is wrong, `where` the file, line or record, `got` and `expected` the two sides of a mismatch, `remedy` what to
    do about it. Instances survive pickling, so that they cross process borders whole.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", got: str = "", expected: str = "", remedy: str = "") -> None:
        self.what, self.where, self.got, self.expected, self.remedy = what, where, got, expected, remedy
        super().__init__(what)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.got:
            text += f"; got {self.got}"
        if self.expected:
            text += f"; expected {self.expected}"
        text = text.rstrip(".") + "."
        return f"{text}\n{self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.what, self.where, self.got, self.expected, self.remedy)


def _rebuild(kind: type[HomingError], what: str, where: str, got: str, expected: str, remedy: str) -> HomingError:
    return kind(what, where=where, got=got, expected=expected, remedy=remedy)


class InputError(HomingError, ValueError):
    """What the user handed in is not usable as it stands."""

    exit_code = 2


class FormatError(InputError):
    """A file that cannot be read as the format that it was taken for."""


class JudgmentError(InputError):
    """Judgments that contradict the texts, or that lack what the task needs."""


class SplitError(InputError):
    """A split that cannot be made without a leak, or a given one that leaks."""


class SettingError(InputError):
    """A setting out of its range, or settings that exclude each other."""


class ModelError(InputError):
    """A model directory that cannot be used as it stands."""


class PoolingError(ModelError):
    """A model directory that does not say how its tokens are pooled, or that says what cannot be right."""


class ResourceError(HomingError, RuntimeError):
    """The run cannot fit into the memory or the disk of this machine."""


class TrainingError(HomingError, RuntimeError):
    """Training went wrong: a loss or a gradient that is not finite."""


class MergeError(HomingError, RuntimeError):
    """A merged model that does not reproduce its adapter, or that equals its base."""


class EndpointError(HomingError, RuntimeError):
    """A server that cannot be reached, that refuses, or that answers with what embeddings cannot be."""


class NotFittedError(HomingError, RuntimeError):
    """A search or a score before `fit`."""


class RunError(HomingError, RuntimeError):
    """A run directory that is in use, or not a run."""


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says, at most 200 characters of it; empty where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "")[:200]
