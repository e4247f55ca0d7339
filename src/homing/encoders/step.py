"""The gradients of one training step: each distinct text once, chunk by chunk, exact whatever fits into memory.

The loss of a batch needs all embeddings at once, their activations need not be held at once. Every chunk is embedded; the activations of
as many chunks as there is room for are kept. The loss gives the gradient of each embedding, and chunk by chunk that gradient goes back into
the weights: through the activations that were kept, or through those of a second forward pass (gradient caching: Gao et al. 2021,
arXiv 2101.06983). What a chunk adds, and in which order, does not depend on what was kept: the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homing.encoders.devices import on_device, ran_out, return_unused_memory, token_budget
from homing.encoders.dropout import Bits
from homing.encoders.fused import let_go
from homing.encoders.memory import SYSTEMS, available, for_activations, saved_bytes
from homing.encoders.model import Model
from homing.encoders.tokens import Tokens
from homing.errors import TrainingError
from homing.losses import Contrast
from homing.progress import Say


@dataclass
class Step:
    """Makes the gradients of `parameters`; remembers what a token takes, and what was too much.

    `budget`: tokens a chunk. It is halved when the device runs out of memory, as is `room`, and the step begins again; on a device with
    memory of its own also where a chunk's activations would not fit. `checkpoint` turns gradient checkpointing (Chen et al. 2016, arXiv
    1604.06174) on: it is called where one text alone does not fit.
    """

    model: Model
    parameters: Sequence[nn.Parameter]
    checkpoint: Callable[[], None]
    bits: Bits | None = None
    say: Say = lambda line: None
    budget: int = 0
    checkpointing: bool = False
    bytes_a_token: float = 0.0
    room: float = 0.0
    recomputed: int = field(default=0, init=False)  # chunks whose activations were not kept, so far

    def __post_init__(self) -> None:
        if self.model.packer is None:
            self.say(f"texts are padded, which takes longer: {self.model.padded_because}")
        if self.model.without_kernels_because:
            self.say(f"gates and rotations go without their kernels, which takes longer: {self.model.without_kernels_because}")
        self.budget = self.budget or token_budget(self.model.device, self.model.packer is not None)
        self.room = self.room or for_activations(self.model.device)

    def gradients(self, tokens: Tokens, texts: NDArray[np.integer], loss: Callable[[Tensor], Contrast], seed: int) -> Contrast:
        """Fill the parameters' `grad` with the gradient of the loss, and return the loss; `seed` decides all dropout of the step.

        `texts` (distinct texts,) are positions in `tokens`; `loss` takes their embeddings, shape (distinct texts, dimension), in that
        order. Raises TrainingError where even one text at a time, with checkpointing, is too much for the memory, or the loss alone.
        """
        while True:
            for parameter in self.parameters:
                parameter.grad = None
            try:
                return self._gradients(tokens, texts, loss, seed)
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
            self._shrink(int(tokens.lengths[texts].max()))

    def _gradients(self, tokens: Tokens, texts: NDArray[np.integer], loss: Callable[[Tensor], Contrast], seed: int) -> Contrast:
        lengths = tokens.lengths[texts]
        planned = list(self.model.chunks(lengths, self.budget))
        room = self.room * available(self.model.device)
        if not self.bytes_a_token:
            self._weigh(tokens, texts[planned[0][:1]], seed, room)
            planned = list(self.model.chunks(lengths, self.budget))
        held: list[Tensor | None] = []
        values = []
        with self._weights_cast_once():
            for number, chunk in enumerate(planned):
                takes = self.bytes_a_token * int(lengths[chunk].sum())
                keep = takes <= room
                room -= takes if keep else 0.0
                with torch.set_grad_enabled(keep):
                    embedded = self._embed(tokens, texts[chunk], seed, number)
                held.append(embedded if keep else None)
                values.append(embedded.detach())
        self.recomputed += sum(each is None for each in held)

        back = on_device(np.argsort(np.concatenate(planned)), self.model.device)
        embeddings = torch.cat(values)[back].requires_grad_()
        try:
            contrast = loss(embeddings)
            if contrast.loss.requires_grad:
                torch.autograd.backward(contrast.loss)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error) or any(each is not None for each in held):
                raise
            raise TrainingError(
                "the loss of one update is too much for the memory", got=f"{len(texts):,} texts", remedy="Try a smaller --batch-size.",
            ) from error  # fmt: skip
        if embeddings.grad is None:  # nothing stands against anything
            return contrast._replace(loss=contrast.loss.detach())
        forward = on_device(np.concatenate(planned), self.model.device)
        gradients = torch.split(embeddings.grad[forward], [len(chunk) for chunk in planned])
        with self._weights_cast_once():
            for number, chunk in enumerate(planned):
                embedded_again = held[number]
                held[number] = None
                if embedded_again is None:
                    embedded_again = self._embed(tokens, texts[chunk], seed, number)
                torch.autograd.backward(embedded_again, gradients[number])
        return contrast._replace(loss=contrast.loss.detach())

    def _embed(self, tokens: Tokens, texts: NDArray[np.integer], seed: int, number: int) -> Tensor:
        """One chunk; its dropout depends on the step's seed and its number alone, so that a second pass repeats it."""
        torch.manual_seed(seed + number)
        if self.bits is not None:
            self.bits.seed(seed + number)
        return self.model.embed(tokens, texts)

    def _weights_cast_once(self) -> AbstractContextManager[object]:
        """Mixed precision casts each weight once for all the chunks within, not once a chunk, whose graph would hold a copy of its own.

        Autocast forgets its casts when its outermost context ends: this one, which itself casts nothing. What was cast without gradients
        has none to give, so the passes before the loss and those after it each have theirs.
        """
        return torch.autocast(self.model.device.type, enabled=False) if self.model.products else nullcontext()

    def weigh(self, tokens: Tokens, text: NDArray[np.integer], seed: int = 0) -> float:
        """Bytes that the activations of a token take, measured on one text, whose position in `tokens` has shape (1,)."""
        with self._weights_cast_once():
            with saved_bytes() as before:
                first = self._embed(tokens, text, seed, 0)
            with saved_bytes(before.storages) as saved:  # weights are in the storages of both, activations are not
                self._embed(tokens, text, seed, 0)
        del first
        return saved.total / int(tokens.lengths[text].sum())

    def _weigh(self, tokens: Tokens, longest: NDArray[np.integer], seed: int, room: float) -> None:
        """Remember what the activations of a token take, turn checkpointing on where the longest text alone is too much, and make chunks
        smaller that would be.
        """
        length = int(tokens.lengths[longest].sum())
        self.bytes_a_token = self.weigh(tokens, longest, seed)
        if self.bytes_a_token * length > room and not self.checkpointing:
            self._checkpoint(f"the activations of {length} tokens take {self.bytes_a_token * length / 1e9:.1f} GB")
            self._weigh(tokens, longest, seed, room)
        before = self.budget
        while self.model.device.type not in SYSTEMS and self.bytes_a_token * self.budget > room and self.budget > length:
            self.budget = max(length, self.budget // 2)
        if self.budget < before:
            self.say(f"chunks of {self.budget} tokens: there is memory for the activations of {room / self.bytes_a_token:.0f}")

    def _shrink(self, longest: int) -> None:
        if self.budget > longest:
            self.budget = max(longest, self.budget // 2)
            self.say(f"out of memory: the step begins again with chunks of {self.budget} tokens")
        elif not self.checkpointing:
            self._checkpoint("out of memory with one text at a time")
        elif self.room:
            self.room = 0.0
            self.say("out of memory: the step begins again and keeps no activations")
        else:
            raise TrainingError(
                "one text at a time is too much for the memory", got=f"{longest} tokens",
                remedy="Try a smaller --max-length, or a smaller --model.",
            )  # fmt: skip
        self.room, self.bytes_a_token = self.room / 2, 0.0
        let_go(self.model.transformer)
        return_unused_memory(self.model.device)

    def _checkpoint(self, why: str) -> None:
        self.say(f"gradient checkpointing is on: {why}")
        self.checkpoint()
        self.checkpointing = True
