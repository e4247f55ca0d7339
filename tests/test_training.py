"""Training, merging and evaluating with the tiny Qwen3: what is kept, what is resumed, what is equal, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

import homing
from alone import exit_code
from homing import Adapter, Mining, Model, Splits, Training
from homing.batches import Batch
from homing.encoders.change import LowRankChange
from homing.errors import JudgmentError, MergeError, ModelError, TrainingError
from homing.training import session
from homing.training.fixed import embedded
from homing.training.journal import Journal
from homing.training.learner import Learner
from homing.training.selection import DevLists, Look, Looks
from homing.training.session import Session, _Figures
from homing.training.tokenised import Tokenised

SETTINGS = Training(tuning="lora", epochs=2, batch_size=8, evaluations=3, learning_rate=3e-3, scale=1.0)


@pytest.fixture(scope="module")
def base(tiny_model: Path) -> Model:
    return Model(tiny_model, max_length=64)


@pytest.fixture(scope="module")
def trained(base: Model, mined: homing.Mined, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    return homing.train(base, mined, splits.dev, SETTINGS, out=tmp_path_factory.mktemp("trained") / "adapter")


def _metrics(adapter: Adapter) -> list[dict[str, float]]:
    return [json.loads(line) for line in (adapter.path.parent / "training" / "metrics.jsonl").read_text().splitlines()]


def test_training_learns_and_records_it(trained: Adapter, base: Model) -> None:
    lines = _metrics(trained)
    steps = [line for line in lines if "loss" in line]
    looks = [line for line in lines if "dev_loss" in line]
    assert [line["step"] for line in steps] == list(range(1, len(steps) + 1))
    assert len(looks) == SETTINGS.evaluations + 1
    assert {"learning_rate", "grad_norm", "positive_score", "negative_score", "seconds", "epoch"} <= set(steps[0])
    assert looks[-1]["dev_loss"] < looks[0]["dev_loss"]
    assert len(list((trained.path.parent / "training" / "checkpoints").iterdir())) <= 4
    assert trained.conventions["base_digest"] == base.weights_digest


def test_the_base_goes_out_as_it_came_in(trained: Adapter, base: Model, tiny_model: Path) -> None:
    assert np.array_equal(base.encode(["some text"]), Model(tiny_model, max_length=64).encode(["some text"]))


def test_same_seed_same_bytes(trained: Adapter, base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path) -> None:
    again = homing.train(base, mined, splits.dev, SETTINGS, out=tmp_path / "adapter")
    assert again.digest == trained.digest
    other = homing.train(base, mined, splits.dev, replace(SETTINGS, seed=7), out=tmp_path / "other")
    assert other.digest != trained.digest


class _Killed(BaseException):
    """Not an Exception: nothing in between may catch it."""


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"dropout": 0.2},
        {"tuning": "full", "learning_rate": 1e-3},
        {"train": "queries"},
        {"epochs": 10, "evaluations": 10, "patience": 2},
    ],
    ids=str,
)
def test_a_training_that_stopped_goes_on_to_the_same_bytes(
    changed: dict[str, Any], base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, scale=None, **changed)
    whole = homing.train(base, mined, splits.dev, settings, out=tmp_path / "whole" / "adapter")
    update = Session._update

    def until_eight(self: Session, batch: Batch) -> None:
        if self.pace.update == 8:
            raise _Killed
        update(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "_update", until_eight)
        with pytest.raises(_Killed):
            homing.train(base, mined, splits.dev, settings, out=tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()
    said: list[str] = []
    resumed = homing.train(base, mined, splits.dev, settings, out=tmp_path / "adapter", say=said.append)
    assert any(line.startswith("going on from update") for line in said)
    assert resumed.digest == whole.digest
    assert (tmp_path / "training" / "scales.json").read_bytes() == (tmp_path / "whole" / "training" / "scales.json").read_bytes()
    mine, theirs = _metrics(resumed), _metrics(whole)
    assert [(line["step"], line.get("loss"), line.get("dev_loss")) for line in mine] == [
        (line["step"], line.get("loss"), line.get("dev_loss")) for line in theirs
    ]


def test_what_had_no_gradient_has_no_moments_to_go_on_with(base: Model, mined: homing.Mined, tmp_path: Path) -> None:
    """As a part of a model that no text reaches: an encoder of images."""

    def learner() -> Learner:
        return Learner(base, mined, SETTINGS, tmp_path / "tokens", None, None, None, print)

    before = learner()
    try:
        for parameter in before.trained[1:]:
            parameter.grad = torch.ones_like(parameter)
        before.follow(1e-3)
        before.tuning.save(tmp_path)
        moments = before.moments()
    finally:
        before.tuning.detach()
    assert moments
    assert not any(name.startswith("0.") for name in moments)
    after = learner()
    try:
        after.restore(Adapter(tmp_path).weights, moments)
        again = after.moments()
    finally:
        after.tuning.detach()
    assert again.keys() == moments.keys()
    assert all(torch.equal(value, moments[name]) for name, value in again.items())


def test_a_checkpoint_of_other_texts_or_judgments_is_not_gone_on_from(
    base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_more(self: Session, batch: Batch) -> None:
        raise _Killed

    def begins_anew(mined: homing.Mined, dev: homing.Dataset) -> bool:
        said: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(Session, "_update", nothing_more)
            with suppress(_Killed):
                homing.train(base, mined, dev, SETTINGS, out=tmp_path / "adapter", say=said.append)
        return not any(line.startswith("going on from update") for line in said)

    train = mined.train
    homing.train(base, mined, splits.dev, SETTINGS, out=tmp_path / "adapter")
    kept = tmp_path / "training"
    shutil.copytree(kept, tmp_path / "kept")
    texts = list(train.corpus.texts)
    texts[int(mined.negative[0, 0])] += " and more"
    reworded = homing.Corpus(train.corpus.ids, tuple(texts))
    qrels = train.qrels
    unsure = homing.Qrels(qrels.query, qrels.document, np.where(np.arange(len(qrels)) == len(qrels) - 1, -1, qrels.relevance))
    for other in (replace(train, corpus=reworded), replace(train, qrels=unsure)):
        assert begins_anew(replace(mined, train=other), replace(splits.dev, corpus=other.corpus))
        shutil.rmtree(kept)
        shutil.copytree(tmp_path / "kept", kept)
    assert not begins_anew(replace(mined, train=replace(train)), replace(splits.dev))


KILLED = """
import os, signal, sys
import homing
from homing import Mining, Model, Training
from homing.training.session import Session
from dataclasses import replace

model, data, out = sys.argv[1:]
train, dev, test = homing.split(homing.load(data))
update = Session._update

def until_seven(self, batch):
    if self.pace.update == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    update(self, batch)

Session._update = until_seven
settings = Training(tuning="lora", epochs=2, batch_size=8, evaluations=3, learning_rate=3e-3, scale=1.0)
homing.train(Model(model, max_length=64), homing.mine(train, Mining(negatives=2)), dev, settings, out=out)
"""


def test_a_killed_process_loses_nothing(trained: Adapter, base: Model, tiny_model: Path, tmp_path: Path) -> None:
    from tiny import made_data

    data = made_data(tmp_path / "made")
    assert exit_code(KILLED, tiny_model, data, tmp_path / "adapter") == -signal.SIGKILL
    splits = homing.split(homing.load(data))
    said: list[str] = []
    resumed = homing.train(
        base, homing.mine(splits.train, Mining(negatives=2)), splits.dev, SETTINGS, out=tmp_path / "adapter", say=said.append
    )
    assert any(line.startswith("going on from update") for line in said), said
    assert resumed.digest == trained.digest


def test_a_best_checkpoint_lost_after_the_one_before_it_was_pruned_is_found_again(
    trained: Adapter, base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last is damaged, its predecessor's best is gone, and the look that follows finds less than that best, as a GPU or a clock may."""
    shutil.copytree(trained.path.parent, tmp_path / "run")
    before, last = sorted((tmp_path / "run" / "training" / "checkpoints").iterdir())[-2:]
    (last / "state.json").write_text("")
    state = json.loads((before / "state.json").read_text())
    state["best_update"], state["looks"]["best"][0]["nDCG@10"] = 1, 2.0
    (before / "state.json").write_text(json.dumps(state))
    again = homing.train(base, mined, splits.dev, SETTINGS, out=tmp_path / "run" / "adapter")
    assert again.digest == trained.digest


def test_a_training_of_other_texts_leaves_none_of_those_before(
    base: Model, mined: homing.Mined, splits: Splits, tiny_model: Path, tmp_path: Path
) -> None:
    short = replace(SETTINGS, epochs=0.5, evaluations=1)
    homing.train(base, mined, splits.dev, replace(short, train="queries"), out=tmp_path / "adapter")
    training = tmp_path / "training"
    assert len(list((training / "documents").iterdir())) == 1  # all sides have one corpus
    before = list((training / "tokens").iterdir())
    homing.train(Model(tiny_model, max_length=32), mined, splits.dev, short, out=tmp_path / "adapter")
    after = list((training / "tokens").iterdir())
    assert len(after) == 1
    assert after != before
    assert not list((training / "documents").iterdir())


@pytest.mark.parametrize("speed", [100, 1_000_000])
def test_the_rate_of_training_is_measured_in_a_moment(
    speed: int, base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two whole updates would take most of the minute that a slow machine was given; a fast one needs one to be filled."""
    monkeypatch.setattr("homing.training.learner.A_FEW", 200)
    clock, asked = [0.0], list[int]()
    session = Session(base, mined, splits.dev, replace(SETTINGS, minutes=1.0), tmp_path, None, None, None, print, 0.0)
    try:
        whole = int(session.learner.group_tokens.sum())

        def gradients(tokens: Any, texts: Any, *_: object) -> None:
            asked.append(int(tokens.lengths[texts].sum()))
            clock[0] += asked[-1] / speed

        monkeypatch.setattr(session.learner.step, "gradients", gradients)
        monkeypatch.setattr("homing.training.learner.time", SimpleNamespace(monotonic=lambda: clock[0]))
        assert session.learner.tokens_a_second(session.pace.updates_an_epoch, 1.0) == pytest.approx(speed)
    finally:
        session.learner.tuning.detach()
    assert len(asked) == (3 if speed > 1000 else 2)
    assert max(asked[:2]) < 0.2 * whole
    assert asked[-1] > asked[0] or speed < 1000


def test_the_clock_ends_a_training_with_its_schedule_complete(
    base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that is made up here: an update takes 0.1 seconds and a look 0.2, but the second look is held up for a second."""
    clock, looks = [0.0], [0.2, 0.2, 1.2]
    update, look = Session._update, DevLists.look

    def monotonic() -> float:
        clock[0] += 0.001
        return clock[0]

    def updating(self: Session, batch: Batch) -> None:
        update(self, batch)
        clock[0] += 0.1

    def looking(self: DevLists) -> Look:
        clock[0] += looks.pop(0) if looks else 0.2
        return look(self)

    monkeypatch.setattr(Session, "_update", updating)
    monkeypatch.setattr(DevLists, "look", looking)
    for module in ("train", "session", "learner"):
        monkeypatch.setattr(f"homing.training.{module}.time", SimpleNamespace(monotonic=monotonic))
    homing.train(base, mined, splits.dev, replace(SETTINGS, minutes=0.1, scale=None), out=tmp_path / "adapter")
    lines = [json.loads(line) for line in (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert 5.5 < clock[0] < 6.5
    assert rates[0] < 0.5 * SETTINGS.learning_rate < 0.9 * max(rates)
    assert rates[-1] < 0.1 * max(rates)
    assert sum("dev_loss" in line for line in lines) == 1 + SETTINGS.evaluations


def test_an_update_that_the_device_still_has_to_do_takes_of_the_updates_time(
    base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An accelerator is given an update in a moment; before a checkpoint, or a look, what it takes is waited for."""
    clock = [0.0]

    def here() -> torch.Tensor:
        clock[0] += 2.0
        return torch.ones(4)

    monkeypatch.setattr("homing.training.session.time", SimpleNamespace(monotonic=lambda: clock[0]))
    made = Session(base, mined, splits.dev, replace(SETTINGS, minutes=1.0), tmp_path, None, None, None, print, 0.0)
    try:
        made.journal.begin()
        made.plan, made.dev, made.general = Looks(1, 3, False), made._dev_lists(3), None
        made.waiting = _Figures(1, 0.1, 1e-3, SimpleNamespace(here=here), mined.query[:1], 0.0)  # type: ignore[arg-type]
        made.pace.update = 1
        made._evaluate()
    finally:
        made.learner.tuning.detach()
    assert made.pace.update_seconds == clock[0] == 2.0


def test_checkpoints_take_of_the_trainings_time(
    base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Journal.save

    def slowly(self: Journal, *arguments: Any) -> None:
        time.sleep(0.2)
        save(self, *arguments)

    monkeypatch.setattr(Journal, "save", slowly)
    homing.train(base, mined, splits.dev, SETTINGS, out=tmp_path / "adapter")
    states = sorted((tmp_path / "training" / "checkpoints").glob("*/state.json"))
    first, *_, last = (json.loads(file.read_text())["pace"]["other_seconds"] for file in states)
    assert len(states) == SETTINGS.evaluations
    assert last - first >= 0.2 * (SETTINGS.evaluations - 1)


@pytest.mark.parametrize(("share", "often"), [(1e6, True), (1e-6, False)])
def test_checkpoints_between_looks_take_a_small_share_of_the_time(
    share: float, often: bool, base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    save = Journal.save
    monkeypatch.setattr(Journal, "save", lambda self, update, *others: written.append(update) or save(self, update, *others))
    monkeypatch.setattr(session, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(session, "SAVING_SHARE", share)
    homing.train(base, mined, splits.dev, replace(SETTINGS, epochs=1, evaluations=2), out=tmp_path / "adapter")
    updates = written[-1]
    assert updates > 3
    assert len(written) == (updates if often else 3)  # the first one tells what one takes


def test_the_last_weights_are_looked_at_also_where_a_checkpoint_took_the_rest_of_the_minutes(
    base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Session._save

    def slowly(self: Session) -> None:
        save(self)
        self.pace.other_seconds += 3600

    monkeypatch.setattr(Session, "_save", slowly)
    monkeypatch.setattr(session, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(session, "SAVING_SHARE", 1e6)
    homing.train(base, mined, splits.dev, replace(SETTINGS, minutes=1.0, evaluations=1), out=tmp_path / "adapter")
    lines = [json.loads(line) for line in (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], "dev_loss" in line) for line in lines] == [(0, True), (1, False), (1, True)]


def test_it_stops_when_dev_no_longer_gains(base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path) -> None:
    said: list[str] = []
    settings = replace(SETTINGS, epochs=40, evaluations=40, patience=2)
    homing.train(base, mined, splits.dev, settings, out=tmp_path / "adapter", say=said.append)
    looks = [line for line in map(json.loads, (tmp_path / "training" / "metrics.jsonl").read_text().splitlines()) if "dev_nDCG@10" in line]
    best = max(range(1, len(looks)), key=lambda look: (looks[look]["dev_nDCG@10"], -looks[look]["dev_loss"]))
    assert any("2 looks at dev without a gain" in line for line in said)
    assert f" (the base {looks[0]['dev_nDCG@10']:.4f}) over " in said[0]
    assert len(looks) == best + 3


def test_the_scale_is_chosen_on_dev_and_written_down(
    base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = homing.train(base, mined, splits.dev, replace(SETTINGS, scale=None), out=tmp_path / "adapter", general=splits.dev)
    found = json.loads((tmp_path / "training" / "scales.json").read_text())
    assert adapter.scale == found["chosen"]
    assert [each["scale"] for each in found["scales"]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert all(each["general_nDCG@10"] == pytest.approx(each["dev_nDCG@10"]) for each in found["scales"])
    kept = homing.train(base, mined, splits.dev, replace(SETTINGS, scale=0.5), out=tmp_path / "half" / "adapter")
    assert kept.scale == 0.5
    assert not (tmp_path / "half" / "training" / "scales.json").exists()
    monkeypatch.setattr("homing.training.selection.FEWEST_TO_CHOOSE", 10**9)
    said: list[str] = []
    short = replace(SETTINGS, scale=None, epochs=1, evaluations=1)
    assert homing.train(base, mined, splits.dev, short, out=tmp_path / "short" / "adapter", say=said.append).scale == 1
    assert said[-1].startswith("too short a training to choose on dev")


def test_a_rate_that_ruins_the_model_keeps_the_base(base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path) -> None:
    settings = replace(SETTINGS, tuning="full", learning_rate=0.5, scale=None, evaluations=1)
    said: list[str] = []
    adapter = homing.train(base, mined, splits.dev, settings, out=tmp_path / "adapter", say=said.append)
    assert adapter.scale == 0
    assert any("keep the base" in line for line in said)
    merged = homing.merge(base, adapter, out=tmp_path / "model")
    assert np.array_equal(merged.encode(["list the files"]), base.encode(["list the files"]))


def test_queries_only_leaves_the_documents_to_the_base(base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path) -> None:
    settings = replace(SETTINGS, train="queries", learning_rate=1e-2, epochs=4)
    adapter = homing.train(base, mined, splits.dev, settings, out=tmp_path / "adapter")
    assert adapter.side == "queries"
    pair = homing.merge(base, adapter, out=tmp_path / "model")
    assert isinstance(pair, homing.Pair)
    texts = ["list the files", "保险责任"]
    assert np.array_equal(pair.encode(texts, "document"), base.encode(texts, "document"))
    assert not np.allclose(pair.encode(texts, "query"), base.encode(texts, "query"), atol=1e-3)
    looks = [line for line in _metrics(adapter) if "dev_loss" in line]
    assert looks[-1]["dev_loss"] < looks[0]["dev_loss"]
    before, after, *_ = homing.evaluate([base, pair], splits.dev, splits.test)
    assert not np.array_equal(before.test_scores, after.test_scores)

    alone = Model(tmp_path / "model")
    assert np.allclose(alone.encode(texts, "query"), pair.encode(texts, "query"), atol=1e-5)
    with pytest.raises(ModelError, match="encodes queries alone"):
        alone.encode(texts, "document")
    opened = homing.open_model(tmp_path / "model")
    assert isinstance(opened, homing.Pair)
    assert np.allclose(opened.encode(texts, "document"), base.encode(texts, "document"), atol=1e-6)
    said = json.loads((tmp_path / "model" / "homing.json").read_text())
    said["documents"]["digest"] = "0" * 32
    (tmp_path / "model" / "homing.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match="trained beside"):
        homing.open_model(tmp_path / "model")


def test_documents_that_a_killed_call_or_another_run_encoded_are_not_encoded_again(
    base: Model, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("homing.encoders.kept.BLOCK_CHARACTERS", 2000)
    corpus, encode, asked, calls = splits.train.corpus, Model.encode, list[int](), 3

    def killed(self: Model, texts: Sequence[str], *others: Any, **named: Any) -> np.ndarray:
        if len(asked) == calls:
            raise KeyboardInterrupt
        asked.append(len(texts))
        return encode(self, texts, *others, **named)

    monkeypatch.setattr(Model, "encode", killed)
    with pytest.raises(KeyboardInterrupt):
        embedded(base, corpus, tmp_path / "documents")
    done = sum(asked)
    assert 0 < done < len(corpus)
    asked, calls = [], 1000
    found = embedded(base, corpus, tmp_path / "documents")
    assert sum(asked) == len(corpus) - done + 1  # one is encoded again, to see that they are still the model's
    assert np.array_equal(found, encode(base, corpus.texts, "document"))
    asked = []
    assert np.array_equal(embedded(base, corpus, tmp_path / "another run"), found)
    assert asked == [1]


def test_texts_are_tokenised_as_the_encoder_does(base: Model, mined: homing.Mined, trained: Adapter, tiny_model: Path) -> None:
    """Token for token what sentence-transformers feeds the model, prompts included, in the file that training maps."""
    texts = Tokenised(base, mined.train, mined.query, mined.positive, trained.path.parent / "again")
    theirs = SentenceTransformer(str(tiny_model), device="cpu")
    theirs.max_seq_length = 64
    for kind, place, known in (("query", texts.query, mined.train.queries.texts), ("document", texts.document, mined.train.corpus.texts)):
        for position in np.flatnonzero(place >= 0).tolist():
            features = theirs.preprocess([base.prompts[kind] + known[position]])
            wanted = features["input_ids"][0][features["attention_mask"][0] == 1].tolist()
            assert texts.tokens[place[position]].tolist() == wanted


def test_nothing_to_train_on_is_an_error(base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path) -> None:
    empty = replace(
        mined, **{name: getattr(mined, name)[:0] for name in ("query", "positive", "negative", "kind", "rank", "score", "judged")}
    )
    with pytest.raises(JudgmentError, match="no row"):
        homing.train(base, empty, splits.dev, SETTINGS, out=tmp_path / "adapter")
    bare = replace(mined, negative=np.full_like(mined.negative, -1))
    one = bare.of(bare.query[:1])
    for rows, alone in ((bare, {"in_batch": False}), (bare, {"batch_size": 1}), (one, {})):
        with pytest.raises(JudgmentError, match="no negative"):
            homing.train(base, rows, splits.dev, replace(SETTINGS, **alone), out=tmp_path / "adapter")


def test_a_loss_that_is_not_finite_stops_with_the_texts(
    base: Model, mined: homing.Mined, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import homing.losses

    def broken(*arguments: object, **keywords: object) -> homing.losses.Contrast:
        nothing = torch.tensor(float("nan"), requires_grad=True)
        return homing.losses.Contrast(nothing, nothing.detach(), nothing.detach())

    monkeypatch.setattr(homing.losses, "contrastive", broken)
    with pytest.raises(TrainingError, match=r"learning-rate.*look at these texts"):
        homing.train(base, mined, splits.dev, SETTINGS, out=tmp_path / "adapter")


def test_the_adapter_is_peft_own_layout(trained: Adapter, tiny_model: Path, base: Model) -> None:
    config = json.loads((trained.path / "adapter_config.json").read_text())
    assert config["r"] == 16
    assert config["lora_alpha"] == 32
    names = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert config["target_modules"] == names, "in one order, so that every process writes the same bytes"
    tuned = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_model, dtype=torch.float32), trained.path).eval()
    merged = homing.merge(base, trained, out=trained.path.parent / "merged")
    tokens = merged.tokenize(["list the files"], "document")
    with torch.inference_mode():
        hidden = tuned(input_ids=torch.from_numpy(tokens[0][None].astype(np.int64))).last_hidden_state[0, -1]
    assert np.allclose(torch.nn.functional.normalize(hidden, dim=0).numpy(), merged.encode(["list the files"])[0], atol=1e-5)


def test_merged_weights_are_w_plus_scaled_ba(trained: Adapter, tiny_model: Path, base: Model, tmp_path: Path) -> None:
    homing.merge(base, trained, out=tmp_path / "model")
    before, after = load_file(tiny_model / "model.safetensors"), load_file(tmp_path / "model" / "model.safetensors")
    lora = load_file(trained.path / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    changed = 0
    for name, weight in before.items():
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        if f"{stem}.lora_A.weight" in lora:
            delta = 32 / 16 * lora[f"{stem}.lora_B.weight"] @ lora[f"{stem}.lora_A.weight"]
            assert torch.allclose(after[name], weight + delta, atol=1e-6)
            changed += 1
        else:
            assert torch.equal(after[name], weight)
    assert changed == 14


def test_the_merged_directory_is_what_other_readers_expect(trained: Adapter, tiny_model: Path, base: Model, tmp_path: Path) -> None:
    merged = homing.merge(base, trained, out=tmp_path / "model")
    path = tmp_path / "model"
    pooling = json.loads((path / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_lasttoken"] is True
    assert pooling["pooling_mode_mean_tokens"] is pooling["pooling_mode_cls_token"] is False
    assert pooling["word_embedding_dimension"] == 64
    assert [module["type"] for module in json.loads((path / "modules.json").read_text())] == [
        f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")
    ]
    assert json.loads((path / "config_sentence_transformers.json").read_text())["prompts"]["query"] == base.prompts["query"]
    assert json.loads((path / "sentence_bert_config.json").read_text())["max_seq_length"] == 64
    assert (path / "config.json").read_bytes() == (tiny_model / "config.json").read_bytes()
    assert (path / "tokenizer.json").read_bytes() == (tiny_model / "tokenizer.json").read_bytes()
    theirs = SentenceTransformer(str(path), device="cpu")
    texts = ["list the files", "保险责任"]
    assert np.allclose(theirs.encode_query(texts), merged.encode(texts, "query"), atol=1e-5)
    assert np.allclose(theirs.encode_document(texts), merged.encode(texts, "document"), atol=1e-5)
    assert not np.allclose(merged.encode(texts), base.encode(texts), atol=1e-3)


def test_prompts_of_the_training_go_into_the_merged_model(mined: homing.Mined, splits: Splits, tiny_model: Path, tmp_path: Path) -> None:
    told = Model(tiny_model, instruction="Find the page", max_length=64)
    adapter = homing.train(told, mined, splits.dev, replace(SETTINGS, epochs=0.5, evaluations=1), out=tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"differ in prompts.*\nOpen the base as it was for the training: Model\(path, query_prompt="):
        homing.merge(Model(tiny_model, max_length=64), adapter, out=tmp_path / "model")
    merged = homing.merge(told, adapter, out=tmp_path / "model")
    assert merged.prompts["query"] == "Instruct: Find the page\nQuery:"
    assert SentenceTransformer(str(tmp_path / "model")).prompts["query"] == "Instruct: Find the page\nQuery:"


def test_an_adapter_that_changes_nothing_is_refused(trained: Adapter, base: Model, tmp_path: Path) -> None:
    Path(shutil.copytree(trained.path, tmp_path / "zero"))
    weights = load_file(tmp_path / "zero" / "adapter_model.safetensors")
    zero = {name: torch.zeros_like(weight) if "lora_B" in name else weight for name, weight in weights.items()}
    save_file(zero, tmp_path / "zero" / "adapter_model.safetensors")
    with pytest.raises(MergeError, match="equal the base"):
        homing.merge(base, Adapter(tmp_path / "zero"), out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_merge_that_is_not_the_adapter_is_refused(trained: Adapter, base: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: LowRankChange, name: str, weight: torch.Tensor) -> torch.Tensor:
        return weight + 2 * (right(self, name, weight) - weight)

    right = LowRankChange.apply
    monkeypatch.setattr(LowRankChange, "apply", twice)
    with pytest.raises(MergeError, match="do not give the adapter's activations"):
        homing.merge(base, trained, out=tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_another_base_is_refused(trained: Adapter, tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    other = Model(tiny_qwen3(tmp_path / "other", seed=1), max_length=64)
    with pytest.raises(ModelError, match="another base digest"):
        homing.merge(other, trained, out=tmp_path / "model")


def test_a_half_precision_base_stays_half_precision(mined: homing.Mined, splits: Splits, tmp_path: Path) -> None:
    from tiny import tiny_qwen3

    half = Model(tiny_qwen3(tmp_path / "half", dtype="bfloat16"), max_length=64)
    adapter = homing.train(half, mined, splits.dev, SETTINGS, out=tmp_path / "adapter")
    homing.merge(half, adapter, out=tmp_path / "model")
    assert {weight.dtype for weight in load_file(tmp_path / "model" / "model.safetensors").values()} == {torch.bfloat16}
