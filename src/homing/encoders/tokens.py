"""Texts as token ids, and how a tokenizer makes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

AT_ONCE = 1024  # texts: a tokenizer's threads have work
CHARACTERS = 1 << 20  # at once: long texts don't fill the memory


@dataclass(frozen=True, eq=False)
class Tokens:
    """Texts as token ids, prompt and special tokens included, cut to the model's length.

    Shapes: `ids` (all tokens,), `offsets` (texts + 1,): text i is `ids[offsets[i]:offsets[i + 1]]`.
    """

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Iterable[ArrayLike]) -> Self:
        """These texts, each as its token ids, shape (tokens of it,)."""
        pieces = [np.asarray(text, dtype=np.int32) for text in texts]
        ids = np.concatenate(pieces) if pieces else np.empty(0, dtype=np.int32)
        return cls(ids, np.cumsum([0, *map(len, pieces)], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens a text, shape (texts,)."""
        return np.diff(self.offsets)

    def __getitem__(self, text: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[text] : self.offsets[text + 1]]


def token_ids(tokenizer: Any, texts: Sequence[str], prompt: str = "", *, truncate: bool = True) -> Iterator[list[int]]:
    """Token ids of each text behind the prompt, as transformers' tokenizer gives them."""
    for some in batches(texts):
        yield from tokenizer([prompt + text for text in some], truncation=truncate, padding=False, verbose=False)["input_ids"]


def batches(texts: Sequence[str], most: int = AT_ONCE, characters: int = CHARACTERS) -> Iterator[list[str]]:
    """The texts in their order, at most so many and so many characters at once; a longer text comes alone."""
    batch: list[str] = []
    room = characters
    for text in texts:
        if batch and (len(batch) == most or len(text) > room):
            yield batch
            batch, room = [], characters
        batch.append(text)
        room -= len(text)
    if batch:
        yield batch
