"""What a server may do wrong to a text, each done here on purpose: the embeddings that such a server would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.models import Pooling

from homing.encoders.model import Model
from homing.protocols import Kind

POOLED = ("lasttoken", "mean", "cls", "max")
LENGTHS = (8, 16, 32, 64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384)
CUTS = ("end token kept", "end token lost", "beginning cut off")
Ids = list[int]
Make = Callable[[str], str]


@dataclass(frozen=True)
class Way:
    """One way from a text to its embedding: what happens to the string, to its special tokens, how it is pooled; "" is the right one."""

    text: str = ""
    special: str = ""
    pooling: str = ""

    @property
    def faults(self) -> tuple[str, ...]:
        """The names of what is wrong."""
        return tuple(each for each in (self.text, self.special, self.pooling) if each)


def strings(prompt: str, other: str) -> dict[str, Make]:
    """What may happen to a text under its prompt on its way into the tokenizer, by name; `other` is the prompt of the other side."""
    found: dict[str, Make] = {"": lambda text: prompt + text}
    if prompt:
        found["missing prompt"] = lambda text: text
        found["doubled prompt"] = lambda text: prompt + prompt + text
        found["a blank too many behind the prompt"] = lambda text: f"{prompt} {text}"
        if prompt != prompt.rstrip(" "):
            found["a blank too few behind the prompt"] = lambda text: prompt.removesuffix(" ") + text
        if prompt != prompt.rstrip():
            found["blanks lost behind the prompt"] = lambda text: prompt.rstrip() + text
        if "\n" in prompt:
            found["line breaks turned into blanks"] = lambda text: (prompt + text).replace("\n", " ")
            found["line breaks lost"] = lambda text: (prompt + text).replace("\n", "")
            found["line breaks written as \\n"] = lambda text: (prompt + text).replace("\n", "\\n")
    if other and other != prompt:
        found["the other side's prompt"] = lambda text: other + text
        if prompt:
            found["the prompts of both sides"] = lambda text: other + prompt + text
    found["a blank before the text"] = lambda text: f" {prompt}{text}"
    found["a blank behind the text"] = lambda text: f"{prompt}{text} "
    found["lower case"] = lambda text: (prompt + text).lower()
    return found


class Workshop:
    """Embeds texts of one kind with a local model in any `Way`; `other` is the prompt of the other side."""

    def __init__(self, model: Model, kind: Kind, other: str) -> None:
        self.model, self.kind = model, kind
        self.strings = strings(model.prompts[kind], other)
        self.special = set(model.transformer.tokenizer.all_special_ids)
        self.poolings = {"": model.pooling} | {f"pooling {mode}": mode for mode in POOLED if mode != model.pooling}

    def ways(self, texts: Sequence[str]) -> Iterator[tuple[Way, NDArray[np.float32]]]:
        """Every way that gives these texts other token ids than those before it, with the embeddings (texts, dimension) that it gives."""
        seen: set[tuple[tuple[int, ...], ...]] = set()
        for text, make in self.strings.items():
            plain = self.ids([make(each) for each in texts])
            for special, changed in self._specials(plain).items():
                key = tuple(map(tuple, changed))
                if key in seen or not all(changed):
                    continue
                seen.add(key)
                for pooling, rows in self.pooled(changed).items():
                    yield Way(text, special, pooling), rows

    def cut(self, text: str, way: Way, lengths: Sequence[int]) -> Iterator[tuple[int, str, NDArray[np.float32]]]:
        """A text under a way, cut at lengths below its own (and, as length 0, not cut at all), with its embedding (dimension,)."""
        (whole,) = self._specials(self.ids([self.strings[way.text](text)], truncate=False))[way.special]
        (here,) = self._specials(self.ids([self.strings[way.text](text)]))[way.special]
        positions = getattr(self.model.transformer[0].model.config, "max_position_embeddings", 1 << 30)
        if len(whole) > len(here) and len(whole) < positions:
            yield 0, "", self.pooled([whole])[way.pooling][0]
        end = len(whole) - len(self._without_end(whole))
        for length in sorted({length for length in lengths if end < length < len(here)}, reverse=True):
            ends = (whole[: length - end] + whole[len(whole) - end :], whole[:length], whole[-length:])
            for name, ids in zip(CUTS, ends, strict=True):
                if end or name != "end token lost":
                    yield length, name, self.pooled([ids])[way.pooling][0]

    def embed(self, text: str, way: Way) -> NDArray[np.float32]:
        """The embedding (dimension,) of a text in a way, cut where the model cuts."""
        (ids,) = self._specials(self.ids([self.strings[way.text](text)]))[way.special]
        found: NDArray[np.float32] = self.pooled([ids])[way.pooling][0]
        return found

    def ids(self, sent: Sequence[str], truncate: bool = True) -> list[Ids]:
        """The model's token ids of strings that have their prompt."""
        found = self.model.transformer.tokenizer(list(sent), truncation=truncate, padding=False, verbose=False)["input_ids"]
        return [list(map(int, row)) for row in found]

    def _specials(self, plain: list[Ids]) -> dict[str, list[Ids]]:
        """Token ids with their special tokens as they should be, and as they may be."""
        return {
            "": plain,
            "lost end token": [self._without_end(row) for row in plain],
            "lost special tokens": [[each for each in row if each not in self.special] for row in plain],
            "end token twice": [row + row[-1:] if row[-1] in self.special else row for row in plain],
        }

    def _without_end(self, row: Ids) -> Ids:
        return row[:-1] if row and row[-1] in self.special else row

    def pooled(self, rows: list[Ids]) -> dict[str, NDArray[np.float32]]:
        """Embeddings (rows, dimension) of token ids under each pooling, the model's own under "". One row at a time: nothing is padded."""
        body, *_ = self.model.transformer
        heads = {name: self._head(mode) for name, mode in self.poolings.items()}
        found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in heads}
        with torch.inference_mode():
            for ids in rows:
                tokens = torch.tensor([ids], device=self.model.device)
                features: dict[str, Any] = body({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
                for name, modules in heads.items():
                    out = dict(features)
                    for module in modules:
                        out = module(out)
                    row = cast(torch.Tensor, out["sentence_embedding"])[0].float()
                    found[name].append(row.cpu().numpy())
        return {name: np.stack(rows) for name, rows in found.items()}

    def _head(self, mode: str) -> list[torch.nn.Module]:
        """The modules behind the transformer, pooling in this mode."""
        modules = list(self.model.transformer)[1:]
        if mode == self.model.pooling:
            return modules
        return [Pooling(module.embedding_dimension, mode) if isinstance(module, Pooling) else module for module in modules]
