"""Embeddings kept on disk: found again, never another model's, whole after any kill, and never a text."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashing import Hashing
from homing.encoders import kept
from homing.encoders.kept import Kept
from homing.encoders.model import Model
from homing.encoders.store import Store
from homing.errors import ModelError
from homing.protocols import Encoder

TEXTS = [f"text {number}" for number in range(40)]


def test_what_was_encoded_is_not_encoded_again(tmp_path: Path) -> None:
    first = Kept(Hashing(), tmp_path)
    wanted = Hashing().encode(TEXTS, "document")
    assert isinstance(first, Encoder)
    assert (first.encode(TEXTS, "document") == wanted).all()
    assert (first.encode(TEXTS, "document") == wanted).all()
    assert len(first.encoder.asked) == first.encoded == 40  # type: ignore[attr-defined]
    other = Hashing()
    mixed = [TEXTS[3], "new", TEXTS[3], TEXTS[39], "new"]
    assert (Kept(other, tmp_path).encode(mixed, "document") == Hashing().encode(mixed, "document")).all()
    assert other.asked == [TEXTS[3], "new"]  # the first of them is the trial, the second is new
    assert (Kept(other, tmp_path).encode(TEXTS, "query") == Hashing().encode(TEXTS, "query")).all()


def test_the_whole_corpus_is_mapped_not_read(tmp_path: Path) -> None:
    Kept(Hashing(), tmp_path).encode(TEXTS, "document")
    found = Kept(Hashing(), tmp_path).encode(TEXTS, "document")
    assert not found.flags.writeable
    assert not found.flags.owndata


def test_other_weights_prompts_or_lengths_never_meet(tmp_path: Path, tiny_model: Path) -> None:
    texts = ["a text", "another"]
    models = [Model(tiny_model), Model(tiny_model, instruction="Find it"), Model(tiny_model, max_length=8)]
    for model in models:
        cached = Kept(model, tmp_path)
        for kind in ("query", "document"):
            assert np.allclose(cached.encode(texts, kind), model.encode(texts, kind), atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 5  # the two instructions share their documents


def test_no_text_is_on_disk(tmp_path: Path) -> None:
    Kept(Hashing(), tmp_path).encode(["a very secret sentence"], "document")
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(files)
    assert not any(b"secret" in each for each in files)


def test_a_model_that_changed_behind_its_digest_is_noticed(tmp_path: Path) -> None:
    Kept(Hashing("old", says="same"), tmp_path).encode(TEXTS, "document")
    heard: list[str] = []
    found = Kept(Hashing("new", says="same"), tmp_path, heard.append).encode(TEXTS, "document")
    assert (found == Hashing("new").encode(TEXTS, "document")).all()
    assert "otherwise" in heard[0]
    wider = Kept(Hashing("wider", 9, says="same"), tmp_path, heard.append)
    assert (wider.encode(TEXTS[:5], "document") == Hashing("wider", 9).encode(TEXTS[:5], "document")).all()
    unseen = Kept(Hashing("new", says="same"), tmp_path, heard.append)  # nothing in common to try: the dimension tells
    assert (unseen.encode(["x", "y"], "document") == Hashing("new").encode(["x", "y"], "document")).all()


def test_off_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMING_CACHE", "off")
    encoder = Hashing()
    cached = Kept(encoder)
    cached.encode(TEXTS, "document")
    cached.encode(TEXTS, "document")
    assert len(encoder.asked) == 80
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path / "here"))
    Kept(encoder).encode(TEXTS, "document")
    assert (tmp_path / "here" / "embeddings" / "w-document" / "rows").is_file()


def test_a_disk_that_cannot_be_written_costs_the_keeping_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    heard: list[str] = []
    found = Kept(Hashing(), tmp_path / "file" / "below", heard.append).encode(TEXTS, "document")
    assert (found == Hashing().encode(TEXTS, "document")).all()
    assert "not kept" in heard[0]

    monkeypatch.setattr(kept, "BLOCK_CHARACTERS", 60)
    encoder, blocks = Hashing(), 0

    def full(*arguments: object) -> None:
        nonlocal blocks
        blocks += 1
        if blocks > 4:
            raise OSError(28, "No space left on device")
        append(*arguments)  # type: ignore[arg-type]

    from homing.encoders import store

    append = store._append
    monkeypatch.setattr(store, "_append", full)
    found = Kept(encoder, tmp_path / "full", heard.append).encode(TEXTS, "document")
    assert (found == Hashing().encode(TEXTS, "document")).all()
    assert len(encoder.asked) == 40
    assert "No space" in heard[-1]


def test_an_embedding_that_is_not_finite_is_named_and_not_kept(tmp_path: Path) -> None:
    encoder = Hashing()
    encoder._row = lambda text: np.full(6, np.nan)  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="not finite"):
        Kept(encoder, tmp_path).encode(TEXTS, "document")
    assert (Kept(Hashing(), tmp_path).encode(TEXTS, "document") == Hashing().encode(TEXTS, "document")).all()


@settings(max_examples=40)
@given(cut=st.integers(0, 400), spoiled=st.lists(st.tuples(st.sampled_from(["rows", "index"]), st.integers(0, 10**6)), max_size=3))
def test_whatever_happens_to_the_files_no_wrong_embedding_is_found(
    cut: int, spoiled: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("store")
    store = Store(directory, "key")
    wanted = Hashing().encode(TEXTS, "document")
    store.add(TEXTS[:30], wanted[:30])
    store.add(TEXTS[30:], wanted[30:])
    for name, place in spoiled:
        raw = bytearray((directory / name).read_bytes())
        raw[place % len(raw)] ^= 0x41
        (directory / name).write_bytes(raw)
    for name in ("index", "rows"):
        os.truncate(directory / name, max(0, (directory / name).stat().st_size - cut))
    again = Store(directory, "key")
    places = again.find(TEXTS)
    if (places >= 0).any():
        assert (again.rows(places[places >= 0]) == wanted[places >= 0]).all()
    again.add(TEXTS, wanted)
    places = Store(directory, "key").find(TEXTS)
    assert not again.broken
    assert (places >= 0).all()
    assert (again.rows(again.find(TEXTS)) == wanted).all()


SLOW = """
import sys, time
sys.path.insert(0, {tests!r})
from homing.encoders import kept
from hashing import Hashing
kept.BLOCK_CHARACTERS = 200
class Slow(Hashing):
    def encode(self, texts, kind, *, progress=""):
        time.sleep(0.01)
        return super().encode(texts, kind)
encoder = Slow()
texts = [f"text {{number}}" for number in range(2000)]
found = kept.Kept(encoder, {directory!r}).encode(texts, "document")
assert (found == Hashing().encode(texts, "document")).all()
print(len(encoder.asked))
"""


def test_two_processes_and_a_kill(tmp_path: Path) -> None:
    script = SLOW.format(tests=str(Path(__file__).parent), directory=str(tmp_path))
    index = tmp_path / "w-document" / "index"

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)

    for grown in (1, 4000):
        process = start()
        while process.poll() is None and not (index.is_file() and index.stat().st_size > grown):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    already = (index.stat().st_size - 20) // 20
    assert 0 < already < 2000
    two = [start(), start()]
    printed = [process.communicate()[0] for process in two]
    assert [process.returncode for process in two] == [0, 0]
    assert all(int(asked) <= 2001 - already for asked in printed)
    assert (index.stat().st_size - 20) // 20 == 2000  # neither wrote what the other had written


def test_a_second_evaluation_encodes_nothing(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import homing
    from tiny import made_data

    splits = homing.split(homing.load(made_data(tmp_path / "made")))
    quick = homing.Evaluating(resamples=100)
    before = homing.evaluate([Kept(Model(tiny_model), tmp_path)], splits.dev, splits.test, quick)[0]
    again = Kept(Model(tiny_model), tmp_path)
    asked: list[str] = []
    encode = again.encoder.encode
    monkeypatch.setattr(again.encoder, "encode", lambda texts, kind, **said: asked.extend(texts) or encode(texts, kind))
    after = homing.evaluate([again], splits.dev, splits.test, quick)[0]
    assert len(asked) == 2  # a trial a side
    assert after.measures == before.measures
    assert (after.test_scores == before.test_scores).all()
