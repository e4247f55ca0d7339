"""Trackers for real, offline: what they show, what they never see, and that none of them ends a training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from homing.errors import SettingError
from homing.settings import Training
from homing.training.tracking import Trackers

SECRET = "the merger is announced on Friday"
SETTINGS: dict[str, Any] = {
    "learning_rate": 0.000125, "rank": 24, "in_batch": True, "tuning": "rslora", "minutes": None, "dimensions": "256,128",
    "instruction": SECRET, "query_prompt": SECRET, "word": SECRET.split()[1],
}  # fmt: skip


def bytes_below(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


# A program that prints a text which is also among its arguments: once under Homing's trackers, once under SwanLab as it comes.
PRINTS = """
import sys
from pathlib import Path
directory, secret = Path(sys.argv[1]), sys.argv[2]
def shout():
    print(secret, flush=True)
    print(secret, file=sys.stderr, flush=True)
"""
TRACKED = """
from homing.training.tracking import Trackers
with Trackers(["swanlab"], directory, {"learning_rate": 0.000125, "tuning": "rslora", "instruction": secret}, "a-run") as trackers:
    trackers.log(0, {"dev_nDCG@10": 0.25})
    shout()
    trackers.log(1, {"epoch": 0.5, "loss": 2.0})
"""
AS_IT_COMES = """
import swanlab
swanlab.init(project="control", log_dir=str(directory / "swanlab"))
swanlab.log({"loss": 2.0})
shout()
swanlab.finish()
"""


def run(program: str, directory: Path) -> bytes:
    """What SwanLab's files hold after the program."""
    done = subprocess.run([sys.executable, "-c", PRINTS + program, str(directory), SECRET], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert SECRET in done.stdout
    assert SECRET in done.stderr
    return bytes_below(directory / "swanlab")


@pytest.fixture
def curves() -> Callable[[Path], dict[str, list[tuple[int, float]]]]:
    """Reads TensorBoard's files back with TensorBoard: name -> (step, value) pairs."""
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(directory: Path) -> dict[str, list[tuple[int, float]]]:
        events = EventAccumulator(str(directory)).Reload()
        return {name: [(each.step, each.value) for each in events.Scalars(name)] for name in events.Tags()["scalars"]}

    return read


@pytest.fixture
def swanlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = pytest.importorskip("swanlab", reason="pip install swanlab")
    monkeypatch.setenv("SWANLAB_MODE", "offline")
    monkeypatch.setenv("SWANLAB_ROOT", str(tmp_path / "home"))
    monkeypatch.delenv("SWANLAB_LOG_DIR", raising=False)
    yield module
    if module.has_run():
        module.finish()


class Broken:
    """A callback that fails at an event."""

    def __init__(self, event: str) -> None:
        self.event, self.told = event, []

    def __getattr__(self, event: str) -> Callable[..., None]:
        if not event.startswith("on_"):
            raise AttributeError(event)

        def told(arguments: Any, state: Any, control: Any, **more: Any) -> None:
            self.told.append((event, state.global_step, more.get("logs")))
            if event == self.event:
                raise ConnectionError("no route to the tracker")

        return told


def brittle(monkeypatch: pytest.MonkeyPatch, *callbacks: tuple[str, Any]) -> None:
    from transformers.integrations import integration_utils

    for name, callback in callbacks:
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, lambda callback=callback: callback)


def test_tensorboard_shows_the_figures_at_their_steps(tmp_path: Path, curves: Callable[[Path], Any]) -> None:
    with Trackers(["tensorboard"], tmp_path, SETTINGS, "a-run") as trackers:
        trackers.log(0, {"epoch": 0.0, "dev_nDCG@10": 0.25})
        trackers.log(1, {"epoch": 0.5, "loss": 2.0})
        trackers.log(2, {"epoch": 1.0, "loss": 1.5})
        trackers.log(2, {"epoch": 1.0, "dev_nDCG@10": 0.5, "general_nDCG@10": 0.75})
    shown = curves(tmp_path / "tensorboard")
    assert shown["train/loss"] == [(1, 2.0), (2, 1.5)]
    assert shown["eval/nDCG@10"] == [(0, 0.25), (2, 0.5)]
    assert shown["eval/general_nDCG@10"] == [(2, 0.75)]


def test_a_resumed_training_goes_on_in_the_same_curves(tmp_path: Path, curves: Callable[[Path], Any]) -> None:
    with Trackers(["tensorboard"], tmp_path, SETTINGS, "a-run") as trackers:
        for step in (1, 2, 3, 4):
            trackers.log(step, {"loss": float(step)})
    with Trackers(["tensorboard"], tmp_path, SETTINGS, "a-run") as trackers:  # the last checkpoint was after update 2
        for step in (3, 4, 5):
            trackers.log(step, {"loss": 10.0 * step})
    assert curves(tmp_path / "tensorboard")["train/loss"] == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0), (5, 50.0)]


def test_tensorboard_sees_settings_but_no_text(tmp_path: Path, curves: Callable[[Path], Any]) -> None:
    with Trackers(["tensorboard"], tmp_path, SETTINGS, "a-run") as trackers:
        trackers.log(1, {"loss": 2.0})
    written = bytes_below(tmp_path)
    assert b'"learning_rate": 0.000125' in written
    assert b'"tuning": "rslora"' in written
    assert b'"dimensions": "256,128"' in written
    assert SECRET.encode() not in written
    assert b"merger" not in written


def test_swanlab_sees_figures_and_settings_but_no_text(tmp_path: Path, swanlab: Any) -> None:
    written = run(TRACKED, tmp_path)
    for shown in (b"eval/nDCG@10", b"train/loss", b"learning_rate", b"rslora"):
        assert shown in written
    assert SECRET.encode() not in written
    assert b"merger" not in written


def test_swanlab_as_it_comes_records_the_terminal_and_the_command_line(tmp_path: Path, swanlab: Any) -> None:
    """The control of the test above: a text that SwanLab takes down is found in its files."""
    assert run(AS_IT_COMES, tmp_path).count(SECRET.encode()) >= 3  # printed twice, and an argument


def test_an_error_in_the_training_does_not_reach_swanlab(tmp_path: Path, swanlab: Any) -> None:
    def fail() -> None:
        with Trackers(["swanlab"], tmp_path, SETTINGS, "a-run") as trackers:
            trackers.log(1, {"loss": 2.0})
            raise RuntimeError(SECRET)

    with pytest.raises(RuntimeError, match=SECRET):
        fail()
    assert not swanlab.has_run()
    assert SECRET.encode() not in bytes_below(tmp_path / "swanlab")


def test_every_word_that_training_enumerates_is_shown(tmp_path: Path, curves: Callable[[Path], Any]) -> None:
    words = {"train": "queries", "tuning": "full", "positives": "sum"}
    Training(**words)  # type: ignore[arg-type]
    with Trackers(["tensorboard"], tmp_path, words, "a-run") as trackers:
        trackers.log(1, {"loss": 2.0})
    assert all(f'"{name}": "{word}"'.encode() in bytes_below(tmp_path) for name, word in words.items())


@pytest.mark.parametrize("name", ["tensorbord", "all", "none"])
def test_an_unknown_name_is_said_before_anything_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="not known") as raised:
        Trackers([name], tmp_path, {}, "a-run")
    assert "tensorboard" in raised.value.expected
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["comet_ml", "clearml", "neptune", "dagshub"])
def test_a_tracker_that_records_texts_on_its_own_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="more than figures"):
        Trackers([name], tmp_path, {}, "a-run")


def test_a_missing_package_names_the_pip_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "swanlab" else find(name, *rest))
    with pytest.raises(SettingError) as raised:
        Trackers(["swanlab"], tmp_path, {}, "a-run")
    assert raised.value.remedy == "pip install swanlab"
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("event", ["on_train_begin", "on_log", "on_train_end"])
def test_a_tracker_that_dies_is_dropped_and_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str) -> None:
    broken, sound, said = Broken(event), Broken("never"), []
    brittle(monkeypatch, ("mlflow", broken), ("trackio", sound))
    with Trackers(["mlflow", "trackio"], tmp_path, {}, "a-run", said.append) as trackers:
        for step in (1, 2, 3):
            trackers.log(step, {"loss": 1.0})
    assert len(said) == 1
    assert "mlflow" in said[0]
    assert "no route to the tracker" in said[0]
    assert sum(name == event for name, _, _ in broken.told) == 1
    assert [step for name, step, _ in sound.told if name == "on_log"] == [1, 2, 3]


def test_closing_twice_and_closing_unopened_do_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Broken("never")
    brittle(monkeypatch, ("mlflow", sound))
    Trackers(["mlflow"], tmp_path, {}, "a-run").close()
    assert sound.told == []
    trackers = Trackers(["mlflow", " mlflow ", ""], tmp_path, {}, "a-run")
    trackers.log(1, {"loss": 1.0})
    trackers.close()
    trackers.close()
    assert [name for name, _, _ in sound.told] == ["on_init_end", "on_train_begin", "on_log", "on_train_end"]


def test_no_tracker_costs_nothing(tmp_path: Path) -> None:
    with Trackers([], tmp_path, SETTINGS, "a-run") as trackers:
        trackers.log(1, {"loss": 2.0})
    assert not list(tmp_path.iterdir())
