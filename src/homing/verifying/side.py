"""One side, queries or documents: its texts sent to the server, and what it does otherwise than the model found out and named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from homing.data import Floats32
from homing.encoders.client import RefusedError
from homing.encoders.endpoint import LENGTH_OFF, Endpoint
from homing.encoders.faults import LENGTHS, Way, Workshop
from homing.encoders.model import Model
from homing.encoders.pair import Pair
from homing.errors import ModelError
from homing.protocols import Kind
from homing.shipping.origin import Origin
from homing.verifying.verification import Compared, Finding, Sent

ROUNDING = 1e-5  # cosine distances: what float32 differs by from one program to another
UNLIKE = 2e-2  # beyond what number formats do
WHICH = "Where it is in float32: check which directory it was started with, and that it has been restarted since."

FILLER = "The library holds books about rivers, ships, winter storms and old trade routes. "

PUT_BY_SERVER = "Let one side put it: bare texts where the server does, or no prompt in the server's settings."
SPECIAL_TOKENS = "Serve tokenizer.json of the model's directory, and let the server add special tokens (add_special_tokens: true)."
REMEDIES = {
    "missing prompt": "Send the prompt before each text, byte for byte as the model's card has it, or (homing serve) a task.",
    "doubled prompt": PUT_BY_SERVER,
    "the prompts of both sides": PUT_BY_SERVER,
    "the other side's prompt": "Give the server's prompt for this side, or send the prompt and let the server put none.",
    "line breaks": "Send texts as they are: some clients (LlamaIndex) and templates change line breaks; let the server put the prompt.",
    "blank": "Compare the prompt as JSON with the model's card, character by character: templates add and strip blanks.",
    "lower case": "Serve the tokenizer files of the model's own directory: a setting do_lower_case is at work.",
    "end token": SPECIAL_TOKENS,
    "special tokens": SPECIAL_TOKENS,
    "pooling": "Serve the directory with its modules.json and 1_Pooling; else vLLM takes --pooler-config '{\"pooling_type\": \"LAST\"}' "
    "(MEAN, CLS), text-embeddings-inference --pooling last-token (mean, cls).",
}  # fmt: skip


class Side:
    """Queries or documents: what the server says of them, and what that comes to."""

    def __init__(self, model: Model | Pair, kind: Kind, endpoint: Endpoint, texts: list[str], tolerance: float) -> None:
        self.kind, self.endpoint, self.texts, self.tolerance = kind, endpoint, texts, tolerance
        self.model = model_of(model, kind)
        self.elsewhere = None if isinstance(model, Model) else (model.documents if kind == "query" else model.queries)
        self.prompt, other = model.prompts[kind], model.prompts["document" if kind == "query" else "query"]
        self.workshop = Workshop(self.model, kind, other)
        self.wanted = _unit(self.model.encode(texts, kind)[:, : endpoint.dimensions])
        self.received = self.wanted
        self.findings: list[Finding] = []
        self.serves = endpoint.client.models().get(endpoint.model, {})

    def ways_of_sending(self, bare: bool) -> list[Sent]:
        """How the texts are sent: as clients do, and for a homing serve with its `task` too, or alone where it wants one."""
        if bare:
            return ["bare"]
        if "fingerprint" not in self.serves:
            return ["with prompts"]
        return ["with task"] if self.elsewhere is not None else ["with prompts", "with task"]

    def compare(self, sent: Sent) -> Compared:
        """Send all texts, and find out."""
        self.findings, self.sent = [], sent
        rows = np.concatenate([self._ask(self.texts[at : at + 16]) for at in range(0, len(self.texts), 16)])
        lengths = np.linalg.norm(rows, axis=1)
        self._judge_length(lengths)
        self.received = _unit(rows)
        distances = self._distances(self.received, self.wanted)
        if self.received.shape[1] != self.wanted.shape[1]:
            whose = "asked for were" if self.endpoint.dimensions else "the model's have"
            self._find(
                f"embeddings of {rows.shape[1]} numbers, {whose} {self.wanted.shape[1]}",
                "Leave dimensions out of the request and of the server's settings, or serve the model's own directory."
                if rows.shape[1] < self.wanted.shape[1]
                else f"Keep the first {self.wanted.shape[1]} of each, as its truncate_dim says, or serve the model's own directory.",
            )
        way: Way | None = Way()
        if float(distances.max()) > ROUNDING and not self._mixed_up() and not self._depends_on_company():
            way = self._explain(distances)
        if way is not None:
            self._judge_cut(way)
        return Compared(
            self.kind, sent, len(rows), float(np.median(distances)), float(distances.max()), float(lengths.min()), float(lengths.max())
        )

    def _ask(self, texts: Sequence[str]) -> Floats32:
        texts = [self.prompt + text for text in texts] if self.sent == "with prompts" else list(texts)
        extra: dict[str, Any] = {"task": self.kind} if self.sent == "with task" else {}
        return self._halved(texts, extra)

    def _halved(self, texts: list[str], extra: dict[str, Any]) -> Floats32:
        """The server's embeddings, by halves where it takes fewer texts a request."""
        try:
            return self.endpoint.client.embeddings(self.endpoint.model, texts, **self.endpoint.parameters, **extra)[0]
        except RefusedError:
            if len(texts) == 1:
                raise
            middle = len(texts) // 2
            return np.concatenate([self._halved(texts[:middle], extra), self._halved(texts[middle:], extra)])

    def _find(self, what: str, remedy: str, fails: bool = True) -> None:
        self.findings.append(Finding(what, remedy, (self.kind,), fails, (self.sent,)))

    def _distances(self, received: Floats32, wanted: Floats32) -> Floats32:
        width = min(received.shape[1], wanted.shape[1])
        found: Floats32 = 1 - (_unit(received[:, :width]) * _unit(wanted[:, :width])).sum(axis=1)
        return np.maximum(found, 0)

    def _judge_length(self, lengths: Floats32) -> None:
        off = float(np.abs(lengths - 1).max()) > LENGTH_OFF
        if self.model.similarity == "cosine" and off:
            self._find(
                f"embeddings are not of length 1 but of {lengths.min():.3g} to {lengths.max():.3g}",
                "Normalise them in the client, or serve the directory with its 2_Normalize: an index by inner product ranks otherwise.",
            )
        if self.model.similarity == "dot" and not off:
            self._find("embeddings are normalised, and this model compares by their length too", "Switch normalisation off in the server.")

    def _mixed_up(self) -> bool:
        """Whether the right embeddings come in another order."""
        width = min(self.received.shape[1], self.wanted.shape[1])
        nearest = (_unit(self.received[:, :width]) @ _unit(self.wanted[:, :width]).T).argmax(axis=1)
        moved = nearest != np.arange(len(nearest))
        mixed = bool(moved.any() and self._distances(self.received, self.wanted[nearest]).max() <= self.tolerance)
        if mixed:
            self._find(
                f"{int(moved.sum())} embeddings are those of another text of the request",
                "The server mixes texts up: put embeddings in order by their index, and see its reports of faults.",
            )
        return mixed

    def _depends_on_company(self) -> bool:
        """Whether a text alone has the right embedding, and beside others another."""
        worst = int(self._distances(self.received, self.wanted).argmax())
        alone = _unit(self._ask([self.texts[worst]]))
        right = float(self._distances(alone, self.wanted[[worst]])[0])
        depends = right <= self.tolerance < float(self._distances(self.received[[worst]], alone)[0])
        if depends:
            self._find(
                "a text's embedding depends on what else is in its request",
                "The server's padding is at work: check its padding side and attention mask; one text a request helps until then.",
            )
        return depends

    def _explain(self, distances: Floats32) -> Way | None:
        """Name the way that gives the server's embeddings, and return it; None where there is none."""
        order = np.argsort([len(text) for text in self.texts])
        short = order[: max(4, len(order) * 3 // 4)][:5]  # a cut of long texts is another question
        received, texts, before = self.received[short], [self.texts[text] for text in short.tolist()], float(np.median(distances[short]))
        tried = [(float(np.median(self._distances(received, rows))), way) for way, rows in self.workshop.ways(texts)]
        best = min(distance for distance, _ in tried)
        way = min((way for distance, way in tried if distance <= 2 * best + 1e-7), key=lambda way: len(way.faults))
        if way.faults and best <= min(self.tolerance, 0.2 * before):
            for fault in way.faults:
                told = f"{fault}, where the model's is {self.model.pooling}" if fault == way.pooling else fault
                self._find(told, next(remedy for name, remedy in REMEDIES.items() if name in fault))
            return way
        if before <= ROUNDING:
            return Way()
        if (named := self._other_weights(received, texts, before)) is not None:
            self._find(*named)
            return None
        if before > UNLIKE:
            self._find(
                f"other embeddings altogether (cosine distance {before:.2g}), by none of the faults that were tried",
                "Other weights: check which directory the server was started with, and that it has been restarted since.",
            )
            return None
        worst = float(distances[short].max())
        rounded = _rounded(self.received)
        told = f"embeddings are rounded to {rounded}" if rounded else "a number format with less precision (or nearly the same weights)"
        self._find(
            f"{told}: cosine distances up to {worst:.1e}",
            "Serve in float32 (--dtype float32) for the last digits."
            + (" It is within the tolerance." if worst <= self.tolerance else "" if rounded else f" {WHICH}"),
            worst > self.tolerance,
        )
        return Way() if worst <= self.tolerance else None  # where short texts already differ, long ones tell nothing of a cut

    def _other_weights(self, received: Floats32, texts: Sequence[str], before: float) -> tuple[str, str] | None:
        """Whether these are the embeddings of the model's base, or of the model of the other side."""
        others: list[tuple[str, Model]] = []
        if self.elsewhere is not None:
            others.append(("the model of the other side", self.elsewhere))
        with suppress(ModelError):  # whatever lies there by now
            origin = Origin.read(self.model.path)
            base = self.model.path if self.model.change else None if origin is None else Path(origin.base)
            if base is not None and base.is_dir():
                pooling, trust = None if (base / "modules.json").is_file() else self.model.pooling, self.model.trust_remote_code
                untrained = Model(base, pooling=pooling, trust_remote_code=trust, device=self.model.device, dtype=self.model.dtype)
                others.append(("the untrained base", untrained))
        for name, model in others:
            rows = _unit(model.encode_tokens(model.tokenize([self.prompt + text for text in texts], None)))
            if float(np.median(self._distances(received, rows))) <= min(self.tolerance, 0.2 * before):
                return f"the weights of {name}", "Start the server with the directory of the model that is to be served."
        return None

    def _judge_cut(self, way: Way) -> None:
        """Whether long texts are cut where the model cuts them: one that just fits, and one that is longer."""
        limit = self.model.max_length
        said = self.serves.get("max_model_len")
        candidates = [*LENGTHS, *([int(said)] if isinstance(said, int) else [])]
        for tokens in (limit * 15 // 16, limit * 5 // 4 + 1):
            text = self._of_tokens(tokens)
            try:
                row = _unit(self._ask([text]))
            except RefusedError as error:
                room = f"Start the server with room for {limit} tokens (vLLM: --max-model-len {limit})."
                if tokens > limit:
                    self._find(f"texts longer than {limit} tokens are refused; the model cuts them", "Cut them in the client.", fails=False)
                else:
                    self._find(f"texts of {self._count(text)} tokens are refused ({error.got[:100]})", room)
                return
            right = self.workshop.embed(text, way)
            if float(self._distances(row, _unit(right[None]))[0]) <= max(self.tolerance, ROUNDING):
                continue
            tried = [
                (float(self._distances(row, _unit(cut[None]))[0]), length, how)
                for length, how, cut in self.workshop.cut(text, way, candidates)
            ]
            distance, length, how = min(tried, default=(1.0, 0, ""))
            if distance <= self.tolerance and not length:
                self._find(
                    f"texts are read beyond the {limit} tokens that the model was measured with",
                    f"Start the server with that length (vLLM: --max-model-len {limit}), or cut in the client.",
                )
            else:
                at = f"at {length} tokens, {how}" if distance <= self.tolerance else f"somewhere before {limit} tokens"
                self._find(f"long texts are cut {at}", f"Raise the server's limit to {limit} tokens (vLLM: --max-model-len {limit}).")
            return

    def _count(self, text: str) -> int:
        return len(self.model.tokenize([text], self.kind, truncate=False).ids)

    def _of_tokens(self, tokens: int) -> str:
        """A text of as many tokens, prompt included, as whole words give; its sentences are numbered, so that each place of it counts."""
        words = "".join(f"{number}. {FILLER}" for number in range(tokens // 4 + 1)).split()
        fits = largest(len(words), lambda many: self._count(" ".join(words[:many])) <= tokens)
        return " ".join(words[: max(1, fits)])


def model_of(model: Model | Pair, kind: Kind) -> Model:
    """The model of this side."""
    return model if isinstance(model, Model) else (model.queries if kind == "query" else model.documents)


def largest(most: int, holds: Callable[[int], Any]) -> int:
    """The largest number from 0 to `most` up to which `holds` (by halving), 0 being taken for granted."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _unit(rows: Floats32) -> Floats32:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    found: Floats32 = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return found


def _rounded(rows: Floats32) -> str:
    """The number format that every number was rounded to, empty for none."""
    if (rows.astype(np.float16).astype(np.float32) == rows).all():
        return "float16"
    if not (np.ascontiguousarray(rows).view(np.uint32) & 0xFFFF).any():
        return "bfloat16"
    return ""
