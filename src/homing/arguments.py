"""What the functions of `import homing` are given: of the kind that belongs there, or one error that says how to come by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import getattr_static
from os import PathLike
from types import NoneType, UnionType

from homing.errors import SettingError

_WAYS = {
    "Adapter": "homing.train(base, mined, dev) gives one, homing.Adapter(path) opens one.",
    "Dataset": "homing.load(path) reads one, homing.split(data) gives train, dev and test.",
    "Mapping": "Put them into a dictionary, each under its name: {'topic': topics}.",
    "Evaluation": "homing.evaluate(models, dev, test) gives a list of them: homing.report(*found, out=...).",
    "Mined": "homing.mine(train) gives it.",
    "Model": "homing.Model(path) opens one.",
    "tuple": "Put them into one, also where it is one alone: (path,).",
    "list": "Put them into a list, also where it is one alone: [base, tuned].",
    "Verdict": "homing.compare(evaluations) gives one.",
    "dtype": "It is torch's: torch.float32, torch.bfloat16.",
    "Recipe": "homing.Recipe(data=..., model=...) makes one, homing.Recipe.read(path) reads one.",
    "path": "What is in memory is written to a file first: a DataFrame by to_parquet, a datasets.Dataset by to_json.",
    "texts": "Put the texts into a list, in the order that their embeddings shall have: list(texts), corpus.texts.",
}
_OF_ENCODERS = ("name", "digest", "digest_of", "dimension", "prompts", "similarity")
_ABSENT = object()

WHOLE, WHOLE_REMEDY = "text that can be written as UTF-8", "Cut or escape the text by whole characters."


def demand(kind: type | UnionType, **arguments: object) -> None:
    """Raise SettingError for an argument, given under its name, that is not of this kind."""
    for name, value in arguments.items():
        if not isinstance(value, kind):
            kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
            names = [each.__name__ for each in kinds if each is not NoneType]
            raise _wrong(name, value, " or ".join(names), _WAYS.get(names[0], f"homing.{names[0]}(...) makes one."))


def demand_encoder(**arguments: object) -> None:
    """Raise SettingError for an argument that encodes nothing."""
    for name, value in arguments.items():
        # looked up, not asked for: a server would have to answer, and weights to be read
        known = all(getattr_static(value, each, _ABSENT) is not _ABSENT for each in _OF_ENCODERS)
        if not known or not callable(getattr(type(value), "encode", None)):
            raise _wrong(name, value, "an encoder", _WAYS["Model"])


def demand_path(**arguments: object) -> None:
    """Raise SettingError for an argument that is no path."""
    for name, value in arguments.items():
        if not isinstance(value, str | PathLike) or not str(value):
            raise _wrong(name, value, "a path or a name", "" if value is None or isinstance(value, str) else _WAYS["path"])


def half_a_character(text: str) -> str:
    """The lone surrogate of a text, which UTF-8 cannot hold and no tokenizer reads, with its place, as a message says it; empty if none."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"the lone surrogate \\u{ord(text[error.start]):04x} at character {error.start + 1}"
    return ""


def demand_texts(texts: Sequence[object]) -> None:
    """Raise SettingError for one text where a list of them belongs, and for a list that holds something else, or half a character.

    What is read only once (a generator), has no order (a set) or gives something else than texts in turn (a table's columns, a mapping's
    keys) is no list; an array of texts or a table's column is.
    """
    if isinstance(texts, str):
        raise SettingError("one text was given where a list belongs", got=repr(texts)[:100], remedy="Put it into a list: [text].")
    listed = all(hasattr(type(texts), each) for each in ("__len__", "__getitem__")) and not isinstance(texts, Mapping)
    if not listed or getattr(texts, "ndim", 1) != 1:
        raise _wrong("texts", texts, "a list of texts", _WAYS["texts"])
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise _wrong(f"texts[{place}]", text, "a text", "An empty text is ''.")
        if half := half_a_character(text):
            raise SettingError(f"texts[{place}] holds half a character", got=half, expected=WHOLE, remedy=WHOLE_REMEDY)


def _wrong(name: str, value: object, expected: str, remedy: str) -> SettingError:
    said = repr(str(value))[:100] if isinstance(value, str | PathLike) else "None" if value is None else type(value).__name__
    return SettingError(f"{name} is not what belongs there", got=said, expected=expected, remedy=remedy)
