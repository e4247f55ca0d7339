"""The gradients of a step against every row's texts encoded one by one, whatever is kept, recomputed or runs out of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from homing.encoders.checkpointing import set_checkpointing
from homing.encoders.dropout import Bits, replace_dropout
from homing.encoders.fused import fuse
from homing.encoders.memory import Saved, available, saved_bytes
from homing.encoders.model import Model
from homing.encoders.step import Step
from homing.encoders.tokens import Tokens
from homing.encoders.tuning import targets
from homing.errors import TrainingError
from homing.losses import Contrast

TEXTS = (
    "list all files of the directory and sort them by their size",
    "how is a claim paid after an accident on the road?",
    "保险合同成立后，投保人按照约定交付保险费",
    "blood pressure",
    "a",
    "the harbour, the coast and the storm; a captain, a mast, a rudder, and the tide that turns in the evening of a long day at sea",
    "copy a file",
    "which documents does the policy cover?",
    "the doctor lowered the dose",
)
ROWS = ((3, 8, 2, 1), (0, 6, 8, 1), (0, 4, 1, 5), (7, 1, 8, 6), (3, 5, 2, 4))  # query, positive, two negatives; all as documents
TEMPERATURE = 0.1


def info_nce(query: Tensor, positive: Tensor, negatives: Tensor) -> Contrast:
    """Shapes: (rows, dimension), (rows, dimension), (rows, negatives, dimension); each row also against the next row's positive."""
    others = torch.cat([negatives, positive.roll(1, 0)[:, None]], dim=1)
    pulled, pushed = (query * positive).sum(1) / TEMPERATURE, (others @ query[:, :, None])[..., 0] / TEMPERATURE
    loss = (torch.logsumexp(torch.cat([pulled[:, None], pushed], dim=1), dim=1) - pulled).mean()
    return Contrast(loss, pulled.detach().mean(), pushed.detach().mean())


@dataclass
class Made:
    """A model under LoRA with its texts; `order` (texts,) is the order in which a step gets them."""

    model: Model
    peft: PeftModel
    tokens: Tokens
    parameters: list[nn.Parameter]
    bits: Bits | None = None

    @property
    def order(self) -> NDArray[np.int64]:
        return np.arange(len(TEXTS))

    def loss(self, order: NDArray[np.integer] | None = None) -> Callable[[Tensor], Contrast]:
        place = torch.from_numpy(np.argsort(self.order if order is None else order))
        query, positive, *negatives = place[torch.tensor(ROWS)].T
        return lambda embeddings: info_nce(embeddings[query], embeddings[positive], embeddings[torch.stack(negatives, dim=1)])

    def step(self, **others: Any) -> Step:
        return Step(self.model, self.parameters, others.pop("checkpoint", lambda: None), self.bits, **others)

    def gradients(self, step: Step, order: NDArray[np.integer] | None = None, seed: int = 0) -> tuple[float, list[Tensor]]:
        order = self.order if order is None else order
        found = step.gradients(self.tokens, order, self.loss(order), seed)
        assert not found.loss.requires_grad
        return float(found.loss), [parameter.grad.clone() for parameter in self.parameters if parameter.grad is not None]

    def naive(self) -> tuple[float, list[Tensor]]:
        """Every text of every row by itself through sentence-transformers, as often as it occurs, in one graph."""
        transformer = self.model.transformer

        def embed(text: int) -> Tensor:
            features = transformer.tokenizer([self.model.prompts["document"] + TEXTS[text]], return_tensors="pt", padding=True)
            return transformer(dict(features))["sentence_embedding"][0]

        query, positive, *negatives = (torch.stack([embed(row[place]) for row in ROWS]) for place in range(4))
        loss = info_nce(query, positive, torch.stack(negatives, dim=1)).loss
        return float(loss.detach()), list(torch.autograd.grad(loss, self.parameters))


def make(directory: Path, dropout: float = 0.0, cpu_dropout: bool = False, fused: bool = False) -> Made:
    model = Model(directory, max_length=64)
    body = model.transformer[0].model
    names, left = targets(body)
    torch.manual_seed(0)
    config = LoraConfig(
        task_type="FEATURE_EXTRACTION", r=4, lora_alpha=8, target_modules=names, exclude_modules=left or None, lora_dropout=dropout
    )
    peft = get_peft_model(body, config)
    parameters = [parameter for parameter in peft.parameters() if parameter.requires_grad]
    with torch.no_grad():
        for parameter in parameters:
            parameter.normal_(std=0.05)
    if fused:
        assert fuse(peft)
    bits = replace_dropout(peft) if cpu_dropout else None
    for name, module in model.transformer.named_modules():
        module.training = "lora_dropout" in name
    return Made(model, peft, model.tokenize(TEXTS, "document"), parameters, bits)


@pytest.fixture(params=["qwen3", "minilm"])
def directory(request: pytest.FixtureRequest, tiny_model: Path) -> Path:
    return tiny_model if request.param == "qwen3" else request.getfixturevalue("short_minilm")


@pytest.fixture
def made(tiny_model: Path) -> Made:
    return make(tiny_model)


Found = tuple[float, list[Tensor]]


def close(one: Found, other: Found, within: float = 1e-5) -> bool:
    together = [torch.cat([gradient.flatten() for gradient in gradients]) for _, gradients in (one, other)]
    assert together[1].norm() > 0
    return abs(one[0] - other[0]) <= within * abs(other[0]) and bool((together[0] - together[1]).norm() <= within * together[1].norm())


def equal(one: Found, other: Found) -> bool:
    return one[0] == other[0] and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


def roomy(step: Step, monkeypatch: pytest.MonkeyPatch, tokens: float) -> Step:
    """A step that may keep the activations of so many tokens."""
    step.bytes_a_token = 1.0
    monkeypatch.setattr("homing.encoders.step.available", lambda device: 2 * tokens)
    return step


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_is_every_text_of_every_row_by_itself(directory: Path, fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(directory, fused=fused)
    wanted = made.naive()
    assert wanted[0] > 0.01
    random = np.random.default_rng(0)
    for budget in (16, 60, 10**6):
        for tokens in (0, 60, 10**9):
            order = random.permutation(len(TEXTS))
            step = roomy(made.step(budget=budget), monkeypatch, tokens)
            assert close(made.gradients(step, order), wanted), (budget, tokens)
            assert (step.recomputed > 0) == (tokens < made.tokens.lengths.sum())
    assert close(made.gradients(made.step()), wanted)  # nothing forced


def test_texts_may_be_any_part_of_the_tokens(made: Made) -> None:
    """A step gets positions: those of two texts among nine, in falling order."""
    texts = np.array([7, 2])
    made.step(budget=16).gradients(made.tokens, texts, lambda e: Contrast((e[0] * e[1]).sum(), e.sum().detach(), e.sum().detach()), 0)
    found = [parameter.grad for parameter in made.parameters]
    query, document = (made.model.embed(made.tokens, np.array([text])) for text in texts)
    wanted = torch.autograd.grad((query * document).sum(), made.parameters)
    assert close((0.0, found), (0.0, list(wanted)))  # type: ignore[arg-type]


def test_a_chunk_that_is_too_large_leaves_room_for_a_smaller_one(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [int(made.tokens.lengths[chunk].sum()) for chunk in made.model.chunks(made.tokens.lengths, 40)]
    assert min(sizes) < sizes[0]
    step = roomy(made.step(budget=40), monkeypatch, min(sizes))
    made.gradients(step)
    assert step.recomputed == len(sizes) - 1


@pytest.mark.parametrize("dropout", ["none", "fused", "pytorch", "cpu"])
def test_what_is_kept_does_not_change_a_bit(directory: Path, dropout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drops = dropout in ("pytorch", "cpu")
    made = make(directory, 0.2 if drops else 0.0, dropout == "cpu", fused=dropout == "fused")
    total = int(made.tokens.lengths.sum())
    found, recomputed = [], []
    for tokens in (0, total // 2, total):
        step = roomy(made.step(budget=40), monkeypatch, tokens)
        torch.manual_seed(tokens)  # where the random numbers stood before must not matter
        found.append(made.gradients(step, seed=5))
        recomputed.append(step.recomputed)
    assert recomputed[0] > recomputed[1] > recomputed[2] == 0
    assert all(equal(each, found[0]) for each in found)
    assert equal(made.gradients(made.step(budget=40), seed=5), found[0])  # weighed first, which moves nothing
    assert equal(made.gradients(made.step(budget=40), seed=1 << 30), found[0]) == (not drops)


def test_gradients_of_the_step_before_are_gone(made: Made) -> None:
    step = made.step(budget=40)
    first = made.gradients(step)
    assert equal(made.gradients(step), first)


def test_a_loss_without_a_gradient_gives_none(made: Made) -> None:
    zero = torch.zeros(())
    made.gradients(made.step())
    found = made.step().gradients(made.tokens, made.order, lambda embeddings: Contrast(zero, zero, zero), 0)
    assert found.loss == 0
    assert all(parameter.grad is None for parameter in made.parameters)


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_out_of_memory_halves_the_budget(made: Made, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = made.gradients(made.step())
    embed, said = made.model.embed, list[str]()

    def small_only(tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        if tokens.lengths[texts].sum() > 70:
            raise error
        return embed(tokens, texts)

    monkeypatch.setattr(made.model, "embed", small_only)
    step = made.step(budget=500, say=said.append)
    assert close(made.gradients(step), wanted)
    assert step.budget == 62
    assert [line.split()[-2] for line in said] == ["250", "125", "62"]
    assert not step.checkpointing
    assert step.room == 1 / 16  # and less of the memory is taken
    assert close(made.gradients(step), wanted)  # it is remembered
    assert len(said) == 3


@pytest.mark.parametrize("call", range(1, 7))
def test_wherever_memory_runs_out_once_the_step_begins_again(made: Made, call: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first pass, or in the second, when the parameters have a part of their gradients already."""
    wanted = made.gradients(made.step())
    embed, calls = made.model.embed, list[int]()

    def once(tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        calls.append(len(texts))
        if len(calls) == call:
            raise torch.OutOfMemoryError("out of memory")
        return embed(tokens, texts)

    monkeypatch.setattr(made.model, "embed", once)
    step = made.step(budget=41)  # three chunks, each twice
    monkeypatch.setattr(step, "_weigh", lambda *_: setattr(step, "bytes_a_token", 1.0))
    step.room = 0.0
    assert close(made.gradients(step), wanted)
    assert len(calls) > call
    assert step.budget == 40


def test_memory_that_the_loss_takes_counts_too(made: Made) -> None:
    wanted, failed = made.gradients(made.step()), list[int]()

    def loss(embeddings: Tensor) -> Contrast:
        if len(failed) < 2:
            failed.append(1)
            raise torch.OutOfMemoryError("out of memory")
        return made.loss()(embeddings)

    step = made.step(budget=500)
    found = step.gradients(made.tokens, made.order, loss, 0)
    assert close((float(found.loss), [parameter.grad for parameter in made.parameters]), wanted)  # type: ignore[misc]
    assert step.budget == 125

    def never(embeddings: Tensor) -> Contrast:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(TrainingError, match=f"the loss of one update is too much for the memory; got {len(made.order)} texts") as raised:
        step.gradients(made.tokens, made.order, never, 0)  # not for the length of a text
    assert "--batch-size" in str(raised.value)


def test_then_gradient_checkpointing_then_an_error(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = made.gradients(made.step())
    embed, said, checkpointed = made.model.embed, list[str](), list[bool]()

    def checkpoint() -> None:
        set_checkpointing(made.peft.base_model.model, True)
        checkpointed.append(True)

    def with_checkpointing_only(tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        if not checkpointed:
            raise torch.OutOfMemoryError("out of memory")
        return embed(tokens, texts)

    monkeypatch.setattr(made.model, "embed", with_checkpointing_only)
    step = made.step(budget=200, say=said.append, checkpoint=checkpoint)
    assert close(made.gradients(step), wanted)
    assert checkpointed == [True]
    assert step.checkpointing
    assert step.budget == made.tokens.lengths.max()
    assert "gradient checkpointing is on" in said[-1]

    def never(tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(made.model, "embed", never)
    with pytest.raises(TrainingError, match="one text at a time") as raised:
        made.gradients(step)
    assert "--max-length" in str(raised.value)
    assert f"{made.tokens.lengths.max()} tokens" in str(raised.value)


def test_a_text_that_takes_more_than_the_room_turns_checkpointing_on(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, checkpointed = made.gradients(made.step()), list[int]()
    monkeypatch.setattr("homing.encoders.step.available", lambda device: 1000)
    step = made.step(checkpoint=lambda: checkpointed.append(1))
    assert close(made.gradients(step), wanted)
    assert checkpointed == [1]


@pytest.mark.parametrize("error", [RuntimeError("The size of tensor a (3) must match"), ValueError("x"), TrainingError("a teacher failed")])
def test_other_errors_pass_through(made: Made, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tokens: Tokens, texts: NDArray[np.integer]) -> Tensor:
        raise error

    monkeypatch.setattr(made.model, "embed", broken)
    step = made.step(budget=500)
    with pytest.raises(type(error), match=str(error.args[0]).split("(")[0]):
        made.gradients(step)
    assert step.budget == 500


def by_hooks(made: Made, texts: NDArray[np.integer]) -> int:
    """Bytes that a pass saves, each storage once, without those of the model's parameters and buffers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in made.model.transformer.state_dict().values()}
    held: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        held.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        embedded = made.model.embed(made.tokens, texts)
    assert embedded.requires_grad
    return sum(tensor.untyped_storage().nbytes() for place, tensor in held.items() if place not in own)


def weighed(made: Made) -> float:
    step = made.step()
    made.gradients(step)
    return step.bytes_a_token


def test_a_token_weighs_what_a_pass_keeps(directory: Path) -> None:
    made = make(directory)
    tokens = int(made.tokens.lengths.sum())
    kept = by_hooks(made, made.order)
    assert weighed(made) * tokens == pytest.approx(kept, rel=0.25)  # what pools nine texts is not in it
    one, three = by_hooks(made, np.array([5])), by_hooks(made, np.array([5, 5, 5]))
    assert three == pytest.approx(3 * one, rel=0.05)


def test_fused_layers_keep_less_and_their_merged_weights_are_no_activations(tiny_model: Path) -> None:
    plain, fused = make(tiny_model), make(tiny_model, fused=True)
    assert 0.4 * weighed(plain) < weighed(fused) < weighed(plain)


def test_checkpointing_keeps_the_input_of_each_layer(made: Made) -> None:
    whole = weighed(made)
    set_checkpointing(made.peft.base_model.model, True)
    step = made.step(checkpointing=True)
    made.gradients(step)
    layer_inputs = 2 * 64 * 4  # layers, hidden size, bytes of a float
    assert step.bytes_a_token == pytest.approx(by_hooks(made, np.array([5])) / int(made.tokens.lengths[5]), rel=0.1)
    assert layer_inputs <= step.bytes_a_token < whole / 2


def test_saved_bytes_counts_a_storage_once_and_leaves_out_what_is_known() -> None:
    weight, x = torch.ones(10, 10, requires_grad=True), torch.ones(5, 10)
    with saved_bytes() as saved:
        held = [x @ weight, x[:3] @ weight]
    assert isinstance(saved, Saved)
    assert saved.total == x.nbytes  # the weight is kept for the gradient of x alone, which nobody wants
    with saved_bytes(saved.storages) as again:
        held.append(x @ weight)
    assert again.total == 0
    del held


def test_there_is_memory() -> None:
    assert 1 << 20 < available(torch.device("cpu")) < 1 << 50


def test_products_in_half_precision_leave_gradients_in_float32(made: Made) -> None:
    loss, gradients = made.gradients(made.step())
    made.model.products = torch.bfloat16
    half, rounded = made.gradients(made.step())
    assert half == pytest.approx(loss, rel=0.05)
    assert half != loss
    assert all(gradient.dtype == torch.float32 for gradient in rounded)
    one, other = (torch.cat([gradient.flatten() for gradient in some]) for some in (gradients, rounded))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.98


def test_it_is_said_why_texts_are_padded(tiny_model: Path) -> None:
    model, said = Model(tiny_model, device="cpu"), list[str]()
    model.transformer[0].model.set_attn_implementation("eager")
    Step(model, [], lambda: None, say=said.append)
    assert said == ["texts are padded, which takes longer: its attention is eager, not sdpa"]
