"""One training: updates by a schedule, looks at dev, checkpoints, and the share of what was learned that is kept; any stop resumed."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from homing.batches import Batch
from homing.data import Dataset, Ints, Mined, pair_keys
from homing.data import digest as digest_texts
from homing.encoders.adapter import Adapter
from homing.encoders.devices import Arriving
from homing.encoders.model import Model
from homing.errors import TrainingError
from homing.manifest import write_json
from homing.progress import BAR, Say, beside_bars
from homing.settings import Training
from homing.training.fixed import embedded, place_of
from homing.training.journal import Journal
from homing.training.learner import Learner, Teacher
from homing.training.schedule import Pace, learning_rate
from homing.training.selection import SCALES, DevLists, Look, Looks, Scales, plan_looks, tokens_a_list
from homing.training.tracking import Trackers

LOOKS_SHARE = 0.1  # of the training's time is for looks at dev
ENCODING_SPEED = 3.0  # tokens encoded in the time that training takes for one: forward against forward and backward
A_MOMENT = 8192  # tokens that a look may always take: a second or two on a CPU
SECONDS_BETWEEN_CHECKPOINTS = 120.0  # beside those at each look; more where writing one takes more than SAVING_SHARE of that
SAVING_SHARE = 0.05


def deciding(settings: Training) -> dict[str, Any]:
    """The settings that decide what is learned; who is told of it does not."""
    return {name: value for name, value in asdict(settings).items() if name != "report_to"}


class _Figures(NamedTuple):
    """What an update will say when the device has caught up."""

    update: int
    epoch: float
    rate: float
    values: Arriving  # loss, gradient norm, positive score, negative score
    queries: Ints
    seconds: float


class Session:
    """One training: what learns, where it stands, and what of it is kept."""

    def __init__(
        self, base: Model, mined: Mined, dev: Dataset, settings: Training, logs: Path, teacher: Teacher | None, general: Dataset | None,
        start: Adapter | None, say: Say, began: float,
    ) -> None:  # fmt: skip
        say = beside_bars(say)
        self.model, self.mined, self.dev_data, self.settings, self.logs = base, mined, dev, settings, logs
        self.teacher, self.general_data, self.start, self.say, self.began = teacher, general, start, say, began
        self.trackers = Trackers(
            settings.report_to.split(","), logs, {**asdict(settings), "parameters": base.parameters}, logs.parent.name, say
        )  # fmt: skip
        self.journal = Journal(logs)
        self.own = list[Path]()  # the tokens and embeddings of texts that this training reads
        self.fixed, self.fixed_of_dev, self.fixed_of_general = map(self._fixed_documents, (mined.train, dev, general))
        self.fingerprint = self._fingerprint()
        self.learner = Learner(base, mined, settings, logs / "tokens", teacher, self.fixed, start, say)
        self.own.append(self.learner.texts.place)
        self.pace = Pace.of(len(self.learner.groups), settings)
        self.base_look: Look | None = None
        self.best_look: Look | None = None
        self.best_update, self.unimproved = 0, 0
        self.saving = 0.0  # seconds that the last checkpoint took
        self.waiting: _Figures | None = None

    def _fixed_documents(self, data: Dataset | None) -> NDArray[np.float32] | None:
        """The base's embeddings of the whole corpus: those of an index that exists, so that they are not the training's time.

        None where documents learn too. Made before anything is put on the base: it may be an adapter that training goes on from.
        """
        if data is None or self.settings.train != "queries":
            return None
        found = embedded(self.model, data.corpus, self.logs / "documents")
        self.own.append(place_of(self.model, data.corpus, self.logs / "documents"))
        self.began = time.monotonic()
        return found

    def _fingerprint(self) -> str:
        """What must be equal for a checkpoint to be gone on from: the model, the settings, every text, judgment and candidate, and what
        a checkpoint says of the pace."""
        mined, dev = self.mined, self.dev_data
        parts = [self.model.digest, json.dumps(deciding(self.settings), sort_keys=True)]
        parts += [each.name for each in fields(Pace)]
        columns: list[NDArray[Any]] = [mined.query, mined.positive, mined.negative]
        for data in (mined.train, dev):
            parts += [digest_texts(data.queries.texts), digest_texts(data.corpus.texts)]
            pairs = pair_keys(data.qrels.query, data.qrels.document)
            by_pair = np.argsort(pairs)
            columns += [pairs[by_pair], data.qrels.relevance[by_pair]]
        if (pool := mined.pool) is not None:
            columns += [pool.query, pool.document, pool.kind, pool.judged]
            columns.append(np.array([pool.negatives, pool.hard, pool.medium, pool.seed]))
        state = sha256()
        for column in columns:
            state.update(repr(column.shape).encode() + np.ascontiguousarray(column, dtype=np.int64).tobytes())
        parts.append(state.hexdigest())
        parts.append(self.teacher.digest if self.teacher is not None else "")
        parts += [self.start.digest] if self.start is not None else []
        return digest_texts(parts)

    def run(self) -> tuple[Path, float]:
        """Train to the end, from the last checkpoint where there is one; the directory of the best checkpoint, and its scale."""
        state = self._resume()
        self.plan = Looks(**state["plan"]) if state else self._plan_looks()
        self.pace.settings = replace(self.settings, evaluations=self.plan.evaluations)
        self.pace.looks_after = len(SCALES) if self.plan.choose else 0
        self.dev = self._dev_lists(self.plan.lists)
        self.general = self._general_lists()
        with self.trackers:
            if state is None:
                self.base_look = self._look_at_base()
                self.pace.other_seconds = time.monotonic() - self.began
                if self.start is not None:
                    self._evaluate()
            self._updates()
            scale = self._choose_scale() if self.plan.choose else self._given_scale()
        return self.journal.checkpoint(self.best_update), scale

    def _updates(self) -> None:
        """Every update that is still to come, with looks at dev between them."""
        bar = tqdm(total=self.pace.updates, initial=self.pace.update, desc="training", unit="update", **BAR)
        saved = time.monotonic()
        batches = self.learner.batches(self.pace.update, self.pace.updates_an_epoch)
        with bar:
            while not self.pace.over and self.unimproved < self.settings.patience:
                start = time.monotonic()
                self._update(next(batches))
                self.pace.update += 1
                self.pace.update_seconds += time.monotonic() - start
                bar.total = self.pace.updates
                bar.update()
                since = time.monotonic() - saved
                if not self.pace.look_is_due and since > max(SECONDS_BETWEEN_CHECKPOINTS, self.saving / SAVING_SHARE):
                    self._save()
                    saved = time.monotonic()
                if self.pace.look_is_due:  # now also where that checkpoint took what was left of the minutes
                    self._evaluate()
                    saved = time.monotonic()
        self._flush()
        if self.unimproved >= self.settings.patience and not self.pace.over:
            self.say(f"stopped after update {self.pace.update}: {self.unimproved} looks at dev without a gain")

    def _update(self, batch: Batch) -> None:
        """One update of the weights. What it found is said at once on a CPU; else an update later, when it has long arrived."""
        update, settings = self.pace.update, self.settings
        rate = learning_rate(update, self.pace.updates, settings.learning_rate or 0.0, settings.warmup)
        values = self.learner.gradients(batch, update)
        self._flush()
        self.waiting = _Figures(
            update + 1, round((update + 1) / self.pace.updates_an_epoch, 4), rate, values, batch.queries, self.pace.seconds
        )
        if self.model.device.type == "cpu":
            self._flush()
        self.learner.follow(rate)

    def _flush(self) -> None:
        """Log what the last update found. Raises TrainingError where it is not finite."""
        if self.waiting is None:
            return
        waiting, self.waiting = self.waiting, None
        loss, norm, positive, negative = waiting.values.here().tolist()
        for what, value in (("loss", loss), ("gradient", norm)):
            if not math.isfinite(value):
                texts = [self.mined.train.queries.texts[query] for query in waiting.queries.tolist()]
                more = f" and {len(texts) - 8} more" if len(texts) > 8 else ""
                raise TrainingError(
                    f"the {what} of update {waiting.update} is not finite", got=str(value),
                    where="queries " + "; ".join(repr(text[:80]) for text in texts[:8]) + more,
                    remedy=f"Try a smaller --learning-rate (it was {self.settings.learning_rate:g}), or look at these texts.",
                )  # fmt: skip
        figures = {
            "loss": loss, "learning_rate": waiting.rate, "grad_norm": norm, "positive_score": positive, "negative_score": negative,
        }  # fmt: skip
        self._log({"step": waiting.update, "epoch": waiting.epoch, **figures, "seconds": round(waiting.seconds, 3)})

    def _catch_up(self) -> None:
        """Wait for the update that the device still has to do, which takes of the updates' time."""
        start = time.monotonic()
        self._flush()
        self.pace.update_seconds += time.monotonic() - start

    def _plan_looks(self) -> Looks:
        """As many looks, at as many lists, as cost a tenth of the training's time; a look that takes a moment is always taken."""
        a_list = tokens_a_list(self.model, self.dev_data, self.settings.seed, fixed=self.fixed is not None)
        if self.settings.minutes is None:
            trained = float(self.learner.group_tokens.sum()) * self.settings.epochs
        else:
            rate = self.learner.tokens_a_second(self.pace.updates_an_epoch, self.settings.minutes)
            trained = self.settings.minutes * 60.0 * rate
            self.pace.expected_seconds = float(self.learner.group_tokens.sum()) / self.pace.updates_an_epoch / rate
        there = len(self.dev_data.qrels.positives)
        return plan_looks(LOOKS_SHARE * ENCODING_SPEED * trained / a_list, A_MOMENT / a_list, there, self.settings)

    def _dev_lists(self, lists: int) -> DevLists:
        return DevLists(self.model, self.dev_data, lists, self.learner.objective.temperature, self.settings.seed, self.fixed_of_dev)

    def _general_lists(self) -> DevLists | None:
        """The general set's sample: as large as dev's. With fixed documents, its documents stay the base's too."""
        if self.general_data is None:
            return None
        temperature, seed = self.learner.objective.temperature, self.settings.seed
        return DevLists(self.model, self.general_data, len(self.dev), temperature, seed, self.fixed_of_general)

    def _look(self) -> Look:
        start = time.monotonic()
        look = self.dev.look()
        figures = {f"dev_{name}": value for name, value in look.figures.items()}
        if self.general is not None:
            figures["general_nDCG@10"] = self.general.look().figures["nDCG@10"]
        self.pace.looked(time.monotonic() - start)
        self._log({"step": self.pace.update, "epoch": self.pace.epoch, **figures})
        return look

    def _look_at_base(self) -> Look:
        """A look at the base, also where training goes on from something else."""
        if self.start is None:
            return self._look()
        self.learner.tuning.set_scale(0.0)
        look = self._look()
        self.learner.tuning.set_scale(1.0)
        return look

    def _evaluate(self) -> None:
        """Look at dev and keep a checkpoint, which may be the best so far."""
        self._catch_up()
        look = self._look()
        better = self.best_look is None or look.rank > self.best_look.rank
        self.unimproved = 0 if better else self.unimproved + 1
        if better:
            self.best_look, self.best_update = look, self.pace.update
        self._save()
        base = "" if self.base_look is None else f" (the base {self.base_look.figures['nDCG@10']:.4f})"
        self.say(
            f"update {self.pace.update} of {self.pace.updates} (epoch {self.pace.epoch:.2f}): dev loss {look.figures['loss']:.4f}, "
            f"dev nDCG@10 {look.figures['nDCG@10']:.4f}{base} over {len(self.dev)} queries{', the best so far' if better else ''}"
        )

    def _choose_scale(self) -> float:
        """The share of what was learned that is best on dev, 0 where none beats the base; scales.json holds what each one gave."""
        if self.base_look is None or self.best_look is None:
            raise TrainingError("the training ended before its first look at dev", remedy="Train longer: --epochs or --minutes.")
        self.learner.tuning.restore(Adapter(self.journal.checkpoint(self.best_update)).weights)
        found = Scales.of(self.learner.tuning, self.dev, self.general, self.base_look, self.best_look)
        write_json(self.logs / "scales.json", found.plain())
        for line in found.lines():
            self.say(line)
        return found.chosen

    def _given_scale(self) -> float:
        """The share that the settings say, and all where they leave it to dev, which had no time for it."""
        if self.settings.scale is not None:
            return self.settings.scale
        self.say("too short a training to choose on dev how much of what was learned to keep: all of it is kept")
        return 1.0

    def _save(self) -> None:
        """Write a checkpoint: the weights, the optimiser, and where the training stands; it takes of the training's time."""
        self._catch_up()
        start = time.monotonic()
        kept_looks = {"base": self.base_look, "best": self.best_look}
        state = {
            "fingerprint": self.fingerprint,
            "pace": {name: value for name, value in asdict(self.pace).items() if name not in ("settings", "updates_an_epoch")},
            "best_update": self.best_update,
            "unimproved": self.unimproved,
            "plan": asdict(self.plan),
            "budget": self.learner.step.budget,
            "looks": {name: None if look is None else [look.figures, look.per_query.tolist()] for name, look in kept_looks.items()},
        }
        self.journal.save(self.pace.update, self.learner.tuning.save, self.learner.moments(), state, self.best_update)
        self.saving = time.monotonic() - start
        self.pace.other_seconds += self.saving

    def _resume(self) -> dict[str, Any] | None:
        """Go on from the last whole checkpoint of the same training, whose state is returned; anything else is cleared away."""
        last = self.journal.last(self.fingerprint)
        if last is None:
            self.journal.begin(self.own)
            return None
        path, state, moments = last
        self.learner.restore(Adapter(path).weights, moments)
        for name, value in state["pace"].items():
            setattr(self.pace, name, value)
        self.best_update, self.unimproved, self.learner.step.budget = state["best_update"], state["unimproved"], state["budget"]
        looks = {name: None if kept is None else Look(kept[0], np.array(kept[1])) for name, kept in state["looks"].items()}
        self.base_look, self.best_look = looks["base"], looks["best"]
        self.journal.cut(self.pace.update)
        if self.best_look is not None and not self.journal.checkpoint(self.best_update).is_dir():  # a later one, lost since, was better
            self.best_look = None
        self.say(f"going on from update {self.pace.update} of {self.pace.updates} ({path})")
        return state

    def _log(self, figures: dict[str, Any]) -> None:
        line = self.journal.log(figures)
        self.trackers.log(line["step"], {name: value for name, value in line.items() if name != "step" and value is not None})
