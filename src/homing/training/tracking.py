"""Experiment trackers: the figures of a training, sent to TensorBoard, SwanLab, Weights & Biases and their like.

Each is driven by its callback in transformers.integrations, so that whatever `report_to` names there is a name here. A tracker is given
figures, and settings by name and value; it is given no text. Some record more on their own, such as the terminal or the command line: of
these, SwanLab and Weights & Biases are opened with that switched off, and those without a switch are refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, get_args, get_type_hints

from homing.errors import SettingError
from homing.progress import Say
from homing.settings import Training

Value = float | int | str | bool | None

PACKAGES = {"azure_ml": "azureml-core azureml-mlflow", "flyte": "flytekit"}  # where pip knows a tracker by another name
REFUSED = ("clearml", "comet_ml", "dagshub", "neptune")  # record the terminal, the command line or files besides what they are given


def _words(kind: object) -> Iterator[str]:
    """The strings that a type enumerates."""
    for part in get_args(kind):
        if isinstance(part, str):
            yield part
        else:
            yield from _words(part)


ENUMERATED = {word for kind in get_type_hints(Training).values() for word in _words(kind)}


class Trackers:
    """The trackers of one training, by the names that transformers gives them. A context manager: leaving it closes them.

    `directory`: where trackers keep what they write on this machine, a folder each. A training that resumes there goes on in the same
    TensorBoard curves, without the updates that it does again. `settings` are shown as the run's configuration: numbers, booleans and the
    words that `Training` enumerates; any other string is left out, since it could be a text. A tracker opens with the first figures.
    One that fails then, or later, is dropped, and `say` says so once: no training ends because of it.

    Raises SettingError for a name that is unknown or refused, and for a package that isn't installed.
    """

    def __init__(self, names: Sequence[str], directory: Path, settings: Mapping[str, Value], run_name: str, say: Say = print) -> None:
        said = {name: value for name, value in settings.items() if _is_no_text(value)}
        self._say = say
        self._trackers = [_Tracker(name, _callback(name), _Arguments(run_name, directory / name, said)) for name in _named(names)]

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Send the figures of an update, or of a look at dev (names with `dev_` or `general_`), to every tracker."""
        for tracker in list(self._trackers):
            self._try(tracker, partial(tracker.log, step, figures))

    def close(self) -> None:
        """Close every tracker; a second call does nothing."""
        for tracker in list(self._trackers):
            self._try(tracker, tracker.close)
        self._trackers.clear()

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _try(self, tracker: _Tracker, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._trackers.remove(tracker)
            self._say(f"{tracker.name} failed and gets no more figures ({type(error).__name__}: {error}); the training goes on")


@dataclass(frozen=True)
class _Arguments:
    """What the callbacks ask of transformers' TrainingArguments, without the hundred other fields, which would be recorded too."""

    run_name: str
    directory: Path
    said: dict[str, Value]
    project: str = "homing"
    trackio_static_space_id: bool = False  # nothing is published

    @property
    def output_dir(self) -> str:
        return str(self.directory)

    def to_dict(self) -> dict[str, Value]:
        return dict(self.said)

    def to_sanitized_dict(self) -> dict[str, Value]:
        return self.to_dict()

    def to_json_string(self) -> str:
        return json.dumps(self.said, indent=2)

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Tracker:
    """One callback, told what a Trainer would tell it."""

    def __init__(self, name: str, callback: Any, arguments: _Arguments) -> None:
        from transformers import TrainerControl, TrainerState

        self.name, self._callback, self._arguments = name, callback, arguments
        self._state, self._control = TrainerState(), TrainerControl()
        self._opened = False
        self._finish: Callable[[], object] | None = None

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        if not self._opened:
            self._opened = True
            self._finish = _open(self.name, self._callback, self._arguments, step)
            self._tell("on_init_end")
            self._tell("on_train_begin")
        self._state.global_step, self._state.epoch = step, figures.get("epoch", self._state.epoch)
        self._tell("on_log", logs={_rename(name): value for name, value in figures.items()})

    def close(self) -> None:
        if self._opened:
            self._opened = False
            try:
                self._tell("on_train_end")
            finally:
                if self._finish is not None:
                    self._finish()

    def _tell(self, event: str, **more: Any) -> None:
        getattr(self._callback, event)(self._arguments, self._state, self._control, **more)


def _named(names: Sequence[str]) -> list[str]:
    """The names without space around them, each once."""
    return list(dict.fromkeys(name.strip() for name in names if name.strip()))


def demand_known(names: Sequence[str]) -> None:
    """Raise SettingError for a tracker that is unknown or refused, or whose package isn't installed: before anything is trained."""
    for name in _named(names):
        _callback(name)


def _callback(name: str) -> Any:
    """The callback of this name. Raises SettingError where there is none, or where its package isn't installed."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    known = {each: kind for each, kind in INTEGRATION_TO_CALLBACK.items() if each not in REFUSED}
    if name in REFUSED:
        raise SettingError(
            f"--report-to {name} would record more than figures, texts among it", expected=" or ".join(known),
            remedy="metrics.jsonl in the training's directory has every figure, to be sent there afterwards.",
        )  # fmt: skip
    if name not in known:
        raise SettingError("--report-to names a tracker that is not known", got=repr(name), expected=" or ".join(known))
    try:
        return known[name]()
    except Exception as error:  # each callback has its own way to say that its package is missing
        raise SettingError(
            f"--report-to {name} cannot be used here", got=str(error), remedy=f"pip install {PACKAGES.get(name, name)}"
        ) from error


def _open(name: str, callback: Any, arguments: _Arguments, step: int) -> Callable[[], object] | None:
    """Open the run where the callback's own way would not do; what finishes it."""
    if name == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        # What a stopped training wrote from this step on is hidden: it is done again.
        callback.tb_writer = SummaryWriter(callback.logging_dir or arguments.output_dir, purge_step=step)
    elif name == "swanlab":
        import swanlab

        if swanlab.has_run():  # opened by the caller, who says what it records and ends it
            return None
        settings = swanlab.Settings(
            terminal=swanlab.Settings.Terminal(proxy_type="none"),
            probe=swanlab.Settings.Probe(runtime=False, requirements=False, git=False),
        )
        swanlab.init(
            project=os.getenv("SWANLAB_PROJECT") or arguments.project, name=arguments.run_name, settings=settings,
            log_dir=os.getenv("SWANLAB_LOG_DIR") or arguments.output_dir,
        )  # fmt: skip
        return partial(swanlab.finish)
    elif name == "wandb":
        import wandb

        if wandb.run is not None:
            return None
        arguments.directory.parent.mkdir(parents=True, exist_ok=True)
        wandb.init(
            project=os.getenv("WANDB_PROJECT") or arguments.project, name=arguments.run_name,
            dir=os.getenv("WANDB_DIR") or str(arguments.directory.parent),  # where it makes a folder `wandb`
            settings=wandb.Settings(console="off", save_code=False, disable_git=True, x_disable_meta=True),
        )  # fmt: skip
        return partial(wandb.finish)
    return None


def _rename(name: str) -> str:
    """Transformers' callbacks show what begins with `eval_` apart from the figures of the updates."""
    return f"eval_{name.removeprefix('dev_')}" if name.startswith(("dev_", "general_")) else name


def _is_no_text(value: Value) -> bool:
    return not isinstance(value, str) or value in ENUMERATED or re.fullmatch(r"[0-9., ]*", value) is not None
