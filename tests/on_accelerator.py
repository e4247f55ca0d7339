"""Updates of a training on the accelerator of accelerator.py; run by test_accelerator.py, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

import accelerator
from accelerator import NAME, HostWaits, Watch, to_accelerator
from hashing import Hashing
from homing import Mined, Model, Splits, Training
from homing.encoders.devices import Arriving, on_device
from homing.losses import Contrast
from homing.training import session
from homing.training.session import Session
from homing.training.teacher import EncoderTeacher, ScoreTeacher, pairs
from test_packed import BODIES, directory

KERNEL, KERNEL_BACK = "torch_attn._varlen_attn.default", "torch_attn._varlen_attn_backward.default"
LAYERS, HIDDEN = 2, 64  # of every model here
SETTINGS: dict[str, Any] = {"tuning": "lora", "learning_rate": 1e-3, "batch_size": 6, "epochs": 2.0}
LITTLE = 5_000_000  # bytes: below it some chunks are recomputed


class _Numbers:
    """What the host reads of a tensor that has none."""

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape

    def tolist(self) -> Any:
        return np.zeros(self.shape).tolist()

    def numpy(self) -> Any:
        return np.zeros(self.shape, dtype=np.float32)


@pytest.fixture(autouse=True)
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def here(self: Arriving) -> _Numbers:
        assert self._copied is not None
        self._copied.synchronize()
        return _Numbers(self._tensor.shape)

    monkeypatch.setattr(Arriving, "here", here)


Updates = Callable[..., tuple[Session, list[Watch], list[tuple[str, int]]]]


@pytest.fixture
def updates(tiny_model: Path, splits: Splits, mined: Mined, tmp_path: Path) -> Updates:
    """Some updates of a training; the session, what was seen in each, and when the device's events were recorded and awaited."""

    def run(
        path: Path = tiny_model, *, teacher: Any = None, memory: int = 80_000_000_000, budget: int = 0, many: int = 1,
        before: Callable[[Session], None] = lambda made: None, **changed: Any,
    ) -> tuple[Session, list[Watch], list[tuple[str, int]]]:  # fmt: skip
        model = Model(path, device="cpu", dtype=torch.bfloat16, max_length=64)
        said: list[str] = []
        with accelerator.accelerator(memory) as events:
            settings = Training(**{**SETTINGS, **changed})
            made = Session(to_accelerator(model), mined, splits.dev, settings, tmp_path, teacher, None, None, said.append, 0.0)
            made.journal.begin()
            made.learner.tuning.train_mode()
            made.learner.step.budget = budget or made.learner.step.budget
            before(made)
            seen = []
            for batch in islice(made.learner.batches(0, made.pace.updates_an_epoch), many):
                with Watch() as watch:
                    made._update(batch)
                made.pace.update += 1
                seen.append(watch)
        return made, seen, events

    return run


def chunks(watch: Watch) -> int:
    """As many as went back through the kernel."""
    assert watch.counts[KERNEL_BACK] % LAYERS == 0
    assert not [name for name in watch.counts if "scaled_dot_product" in name]
    return watch.counts[KERNEL_BACK] // LAYERS


def test_a_lora_in_bfloat16_waits_for_nothing(updates: Updates) -> None:
    made, seen, events = updates(many=3)
    first, *_, last = seen
    assert chunks(last) == 1
    assert last.counts[KERNEL] == LAYERS
    assert first.counts[KERNEL] == 3 * LAYERS  # two to measure what a token takes
    assert last.counts["aten._fused_adamw_.default"] == 1
    assert {parameter.grad.dtype for parameter in made.learner.trained if parameter.grad is not None} == {torch.float32}
    assert all(parameter.grad is not None and parameter.grad.shape == parameter.shape for parameter in made.learner.trained)
    assert {parameter.device.type for parameter in made.learner.trained} == {NAME}
    products = {
        dtype: sum(many for (each, rows), many in last.products.items() if each == dtype and rows >= HIDDEN) for dtype, _ in last.products
    }
    assert products[torch.float32] == 0  # those of the loss have fewer rows
    assert products[torch.bfloat16] > 14 * LAYERS
    assert made.learner.step.bytes_a_token > 0
    # An update's figures are read when the next one's gradients have been given to the device, and nothing else is waited for.
    assert events == [("recorded", 0), ("recorded", 1), ("awaited", 0), ("recorded", 2), ("awaited", 1)]


def test_chunks_that_do_not_fit_are_recomputed(updates: Updates) -> None:
    made, seen, _ = updates(budget=200, memory=LITTLE, many=2)
    last = seen[-1]
    again = last.counts[KERNEL] // LAYERS - chunks(last)
    assert 0 < again < chunks(last)
    assert made.learner.step.recomputed > again
    assert not made.learner.step.checkpointing


def test_chunks_are_as_small_as_memory_asks(updates: Updates) -> None:
    """Not by running out of it, which costs a step, and on Windows moves what is too much into the system's memory."""
    made, seen, _ = updates(memory=LITTLE)
    step = made.learner.step
    assert step.budget < 16384
    assert LITTLE * 0.7 / 2 < step.budget * step.bytes_a_token <= LITTLE * 0.7
    assert chunks(seen[-1]) > 1
    assert not step.checkpointing
    assert step.room == 0.7


def test_checkpointing(updates: Updates) -> None:
    made, seen, _ = updates(budget=300, memory=5_000, batch_size=1, many=2)
    assert made.learner.step.checkpointing
    assert seen[-1].counts[KERNEL] == 3 * LAYERS * chunks(seen[-1])  # before the loss, after it, and each layer on the way back


def test_out_of_memory(updates: Updates) -> None:
    def short(made: Session) -> None:
        embed, calls = made.model.embed, iter([0, 0, 0, 1])  # the second chunk of the first update

        def limited(*given: Any) -> Tensor:
            if next(calls, 0):
                raise torch.OutOfMemoryError
            return embed(*given)

        made.model.embed = limited  # type: ignore[method-assign]

    made, seen, _ = updates(budget=400, before=short)
    assert made.learner.step.budget == 200
    assert chunks(seen[-1]) > 1


LOSSES: list[dict[str, Any]] = [
    {"margin": 0.1, "positives": "sum", "hardness": 1.0},
    {"cross_query": 0.5, "in_batch": False},
    {"dimensions": "32,16", "margin": 0.1, "cross_query": 0.5},
    {"tuning": "dora"},
    {"tuning": "rslora", "dropout": 0.1},
]


@pytest.mark.parametrize("changed", LOSSES, ids=str)
def test_whatever_the_settings(updates: Updates, changed: dict[str, Any]) -> None:
    made, seen, _ = updates(**changed)
    assert chunks(seen[-1]) == 1
    assert all(parameter.grad is not None for parameter in made.learner.trained)


@pytest.mark.parametrize("train", ["both", "queries"])
@pytest.mark.parametrize("kind", [EncoderTeacher, ScoreTeacher, None])
def test_teachers_and_fixed_documents(
    updates: Updates, mined: Mined, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, train: str
) -> None:
    teacher, fixed = None, np.random.default_rng(0).normal(size=(len(mined.train.corpus), HIDDEN)).astype(np.float32)
    monkeypatch.setattr(session, "embedded", lambda *given: fixed)
    if kind is EncoderTeacher:
        teacher = EncoderTeacher(Hashing(), mined, tmp_path / "teacher", fixed_documents=train == "queries")
    elif kind is ScoreTeacher:
        query, document = pairs(mined)
        teacher = ScoreTeacher(query, document, np.linspace(0, 1, len(query)))
    _, seen, _ = updates(train=train, teacher=teacher, dimensions="32", many=2)
    assert chunks(seen[-1]) == 1
    brought = [watch.counts["aten._pin_memory.default"] for watch in seen]
    assert brought[0] - brought[1] == (train == "queries") + 8  # the corpus, once; and the two rows that were weighed


@pytest.mark.parametrize("name", ["bert", "modernbert, sliding"])
def test_other_bodies(updates: Updates, tiny_model: Path, tmp_path: Path, name: str) -> None:
    kind, config = BODIES[name]
    _, seen, _ = updates(directory(tmp_path / "made", tiny_model, kind(config)))
    assert chunks(seen[-1]) == 1


def test_encoding_reads_a_chunk_while_the_next_one_runs(tiny_model: Path) -> None:
    model = Model(tiny_model, device="cpu", dtype=torch.bfloat16, max_length=64)
    with accelerator.accelerator() as events, Watch() as watch:
        tokens = to_accelerator(model).tokenize(["a text", "another one", "and a third that is longer"] * 1500, "document")
        assert model.encode_tokens(tokens).shape == (4500, HIDDEN)
    many = len(list(model.chunks(tokens.lengths)))
    assert many > 1
    assert watch.counts[KERNEL] == many * LAYERS
    assert events[:3] == [("recorded", 0), ("recorded", 1), ("awaited", 0)]
    assert len(events) == 2 * many


def _item(embeddings: Tensor) -> Tensor:
    return embeddings * embeddings.sum().item()


def _host(embeddings: Tensor) -> Tensor:
    return embeddings * torch.ones(embeddings.shape[1])


def _copy(embeddings: Tensor) -> Tensor:
    embeddings.detach().cpu()
    return embeddings


def _unpinned(embeddings: Tensor) -> Tensor:
    return embeddings * torch.from_numpy(np.ones(HIDDEN, dtype=np.float32)).to(NAME, non_blocking=True)


def _single(embeddings: Tensor) -> Tensor:
    return torch.where(embeddings > 0, embeddings, torch.tensor(0.0))


def _mask(embeddings: Tensor) -> Tensor:
    embeddings[embeddings > 0].sum()
    return embeddings


def _mask_put(embeddings: Tensor) -> Tensor:
    return embeddings.index_put((embeddings > 0,), embeddings.new_zeros(()))


def _synchronised(embeddings: Tensor) -> Tensor:
    torch.accelerator.synchronize()
    return embeddings


MISMATCH = getattr(torch._subclasses.fake_tensor, "FakeTensorDeviceMismatchError", RuntimeError)  # its name came after PyTorch 2.11
PLANTED = {
    _item: DataDependentOutputException, _host: MISMATCH, _copy: HostWaits,
    _unpinned: HostWaits, _single: HostWaits, _mask: DynamicOutputShapeException, _mask_put: HostWaits,
    _synchronised: HostWaits,
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_what_waits_is_caught(updates: Updates, planted: Callable[[Tensor], Tensor]) -> None:
    """Planted where the loss begins: each of these fails, so what passes above has none of them."""

    def plant(made: Session) -> None:
        objective = made.learner.objective

        def spoilt(queries: Tensor, *others: Any) -> Contrast:
            return objective(planted(queries), *others)

        made.learner.objective = spoilt  # type: ignore[assignment]

    with pytest.raises(PLANTED[planted]):
        updates(before=plant)


def test_a_sound_change_of_the_loss_passes(updates: Updates) -> None:
    def plant(made: Session) -> None:
        objective = made.learner.objective
        made.learner.objective = lambda queries, *others: objective(  # type: ignore[assignment]
            queries * on_device(np.ones(HIDDEN, dtype=np.float32), made.model.device), *others
        )

    updates(before=plant)


def test_what_a_step_moves_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """benchmarks/traffic.py, on a tiny model: Homing's passes are one operation each, the library's many."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    gpu, traffic = import_module("gpu"), import_module("traffic")
    monkeypatch.setattr(gpu, "real", gpu.tiny)
    library, homing = (set(traffic.moved(1, made_lean)[0]) for made_lean in (False, True))
    ours = {"gate", "gate_backward", "norm_turn", "norm_turn_backward", "rms_norm", "rms_norm_backward"}
    assert ours <= homing
    assert not ours & library
    assert {"silu", "pow"} <= library - homing
