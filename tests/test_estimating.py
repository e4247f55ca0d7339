"""What a run will take: every training it holds is reckoned in."""

from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from homing import Model, estimating
from homing.data import Qrels
from homing.encoders.memory import peak
from homing.errors import ResourceError
from homing.estimating import DISTINCT, Estimate, _documents, _loss, demand_room, estimate
from homing.loading import load
from homing.settings import Mining, Splitting, Training
from homing.training.objective import Objective
from tiny import made_data


@pytest.mark.parametrize("training", [Training(), Training(minutes=20.0)])
def test_further_trainings_are_reckoned_by_their_rows(training: Training, tiny_model: Path, tmp_path: Path) -> None:
    """Or by their share of the minutes; rates are measured anew each time, so work is compared, not time."""
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path))
    one = estimate(model, data, Splitting(), Mining(), training, outside=0)
    three = estimate(model, data, Splitting(), Mining(), training, further=[1.0, 0.25], outside=0)
    work = [each.training_seconds * (1 if training.minutes is not None else each.tokens_per_second) for each in (one, three)]
    assert work[1] / work[0] == pytest.approx(2.25)
    evaluations = [each.evaluation_seconds * each.tokens_per_second for each in (one, three)]
    assert evaluations[1] / evaluations[0] == pytest.approx(4 / 2)
    assert three.disk > one.disk
    assert "3 trainings" in str(three)
    assert "trainings" not in str(one)


def test_documents_that_keep_their_embeddings_are_encoded_once(tiny_model: Path, tmp_path: Path) -> None:
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path))
    settings = Training(train="queries", minutes=20.0)
    one = estimate(model, data, Splitting(), Mining(), settings, outside=0)
    three = estimate(model, data, Splitting(), Mining(), settings, further=[1.0, 1.0], outside=0)
    corpus = [(each.training_seconds - 1200.0 * each.trainings) * each.tokens_per_second for each in (one, three)]
    assert corpus[0] == pytest.approx(len(model.tokenize(data.corpus.texts, "document").ids), rel=0.1)
    assert corpus[1] == pytest.approx(corpus[0])
    queries = len(model.tokenize(data.queries.texts, "query").ids)
    assert three.evaluation_seconds * three.tokens_per_second == pytest.approx(4 * queries)
    both = estimate(model, data, Splitting(), Mining(), Training(minutes=20.0), further=[1.0, 1.0], outside=0)
    assert three.disk - both.disk == 3 * 4 * model.dimension * len(data.corpus)  # a copy beside each training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpoints_of_all_weights_are_float32_whatever_the_base_is(dtype: torch.dtype, tiny_model: Path, tmp_path: Path) -> None:
    model, data = Model(tiny_model, dtype=dtype), load(made_data(tmp_path, queries=4))
    a_checkpoint = 3 * 4 * model.parameters  # weights and two moments
    kept = 2 * (4 * a_checkpoint + a_checkpoint / 3)  # of each training four, and the adapter
    assert estimating._disk(model, data, "full", 2) > kept + a_checkpoint  # and the one that is written


def test_a_batch_holds_no_more_queries_than_there_are(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("homing.estimating.held", lambda device: 0)
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path, queries=40))
    memory = [estimate(model, data, Splitting(), Mining(), Training(batch_size=size)).memory for size in (8, 28, 4096)]
    assert memory[0] < memory[1] == memory[2]


@pytest.mark.parametrize(("free", "fits"), [(14e9, True), (3e9, False)])
def test_a_gpu_need_not_hold_the_activations_of_a_usual_chunk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, fits: bool
) -> None:
    """There a step makes its chunks as small as it must: 16,384 tokens of the 0.6B would take 24 GB."""
    model = SimpleNamespace(device=torch.device("cuda"), packer=object(), max_length=1024, dimension=1024)
    texts = SimpleNamespace(queries=range(1000), corpus=range(10_000))
    for name, said in {"available": free, "held": 1.3e9, "_copies": 2.4e9, "_bytes_a_token": 1.5e6}.items():
        monkeypatch.setattr(estimating, name, lambda *given, said=said: said)
    memory = estimating._memory(model, texts, Training(), None, 40_000)  # type: ignore[arg-type]
    assert not fits or memory > estimating.PEAK * 0.7 * (free - 2.4e9)  # the share that a step takes there
    needed = Estimate(0.0, 0.0, memory, 0, 0.0)
    with nullcontext() if fits else pytest.raises(ResourceError, match="fit into memory"):
        demand_room(needed, model, tmp_path)  # type: ignore[arg-type]


def test_what_is_measured_outside_the_domain_takes_time_too(tiny_model: Path, tmp_path: Path) -> None:
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path))
    found = [estimate(model, data, Splitting(), Mining(), Training(), outside=tokens) for tokens in (0, 10_000)]
    work = [each.evaluation_seconds * each.tokens_per_second for each in found]
    assert work[1] - work[0] == pytest.approx(2 * 10_000)


PEAK = """
import sys
from pathlib import Path
import homing, homing.runs.pipeline
from homing.encoders.memory import peak
from homing.estimating import estimate
from homing.settings import Mining, Splitting, Training
from homing.training.objective import Objective

data, model, out = homing.load(sys.argv[1]), homing.Model(sys.argv[2], max_length=64), Path(sys.argv[3])
settings = Training(tuning=sys.argv[4], batch_size=128, epochs=2, evaluations=1)
needed = estimate(model, data, Splitting(), Mining(), settings).memory
train, dev, _ = homing.split(data)
adapter = homing.train(model, homing.mine(train, Mining(retriever="list")), dev, settings, out=out / "adapter")
homing.merge(model, adapter, out=out / "model")
print(needed, peak())
"""


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_peak_of_memory_is_near_below_the_estimate(tuning: str, tiny_model: Path, tmp_path: Path) -> None:
    data = made_data(tmp_path, queries=240, candidates=16)
    command = [sys.executable, "-c", PEAK, str(data), str(tiny_model), str(tmp_path / "out"), tuning]
    needed, peak = map(int, subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split())
    assert peak < needed < 1.4 * peak


def test_the_peak_is_of_this_program_alone() -> None:
    """getrusage's is also of the program that started this one."""
    held = np.ones(1 << 27)
    told = subprocess.run(
        [sys.executable, "-c", "from homing.encoders.memory import peak; print(peak())"],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    assert 64 << 20 < int(told) < held.nbytes < peak()


def test_the_model_is_estimated_as_it_is(tiny_model: Path, tmp_path: Path) -> None:
    """What learns is put on to be weighed, and taken off again."""
    model, data = Model(tiny_model, max_length=64), load(made_data(tmp_path))
    before = model.encode(data.corpus.texts[:8])
    modules = [name for name, _ in model.transformer.named_modules()]
    for tuning in ("full", "lora"):
        estimate(model, data, Splitting(), Mining(), Training(tuning=tuning))
        assert [name for name, _ in model.transformer.named_modules()] == modules
        assert not any(parameter.grad is not None for parameter in model.transformer.parameters())
        assert np.array_equal(model.encode(data.corpus.texts[:8]), before)


@pytest.mark.parametrize("options", [{}, {"margin": 0.1}, {"dimensions": "16,8"}, {"cross_query": 0.1, "positives": "sum"}])
def test_the_loss_takes_no_more_than_is_reckoned(options: dict[str, Any]) -> None:
    """The most bytes at once, forward and back, that PyTorch's profiler counts."""
    queries, documents, settings = 64, 1024, Training(**options)
    taken = torch.randn(queries, 32, requires_grad=True), torch.randn(documents, 32, requires_grad=True)
    relevance = torch.randint(0, 4, (queries, documents), dtype=torch.int8)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        Objective(settings, 32)(*taken, relevance).loss.backward()
    events = sorted((each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"), key=lambda each: each.start_ns())
    peak = np.cumsum([each.nbytes() for each in events]).max()
    assert 0.7 < peak / _loss(settings, queries * documents) < 1.1


def test_a_batch_has_all_positives_of_its_queries_and_no_more_negatives_than_are_judged() -> None:
    pairs = [(query, 10 * query + place, int(place < 3)) for query in range(40) for place in range(7)]  # 3 relevant, 4 not
    judged = Qrels(*np.array(pairs, dtype=np.int32).T)
    assert _documents(judged, 8, 3) == 8 * 7  # each of the three draws 3 of the same 4
    assert _documents(judged, 8, 1) == 8 * 6
    few = Qrels(*np.array([each for each in pairs if each[1] % 10 < 4], dtype=np.int32).T)  # 3 relevant, 1 not
    assert _documents(few, 8, 3) == pytest.approx(8 * (4 + DISTINCT * 8))
    assert _documents(Qrels(*np.zeros((3, 0), dtype=np.int32)), 8, 3) == 0
