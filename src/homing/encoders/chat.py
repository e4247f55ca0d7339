"""A chat model behind an OpenAI-compatible API as a judge of relevance: a rubric, one query and one document, one grade."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple

from homing.encoders.client import Client, RefusedError, Said
from homing.errors import EndpointError
from homing.rubric import GRADES, Rubric

LONGEST = 12_000  # characters of a query or a document that are sent
TRIES = 3  # answers without a grade before it is left at that
ROOM, MUCH_ROOM = 512, 8192  # tokens of an answer at most: of the rubric's length by far, and of one with thoughts before it
ANSWER_TOKENS = 80  # about what an answer of the rubric's length takes
SCHEMA: dict[str, Any] = {
    "name": "relevance",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "grade": {"type": "integer", "enum": list(GRADES)}},
        "required": ["reason", "grade"],
        "additionalProperties": False,
    },
}
# What servers take differs: tried in this order until one is taken, and that one from then on.
ASKING: tuple[dict[str, Any], ...] = (
    {"temperature": 0, "response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    {"temperature": 0, "response_format": {"type": "json_object"}},
    {"temperature": 0},
    {},
)
_TOO_MUCH = re.compile(r"max_(completion_)?tokens|context.?(length|size|window)|too.?long|reduce.the.length", re.IGNORECASE)
# What a filter says of the texts, not of how they are asked for: Azure, Model Studio, Zhipu.
_CONTENT = re.compile(r"content.?(filter|management|policy)|moderation|inspection|inappropriate|敏感|不安全", re.IGNORECASE)
_THOUGHT = re.compile(r"(<think>)?.*?</think>", re.DOTALL)  # some templates write the first tag into the question
_decode = json.JSONDecoder(strict=False).raw_decode  # models write line breaks into strings
_LAST = re.compile(r"""[{,，]\s*"grade"\s*[:：]\s*"?([0-3])"?\s*}""")  # of an object that is no JSON, for a quote within its reason


@dataclass(frozen=True)
class Graded:
    """A grade with its reason; None where the model would not or could not give one, which `reason` then says. `tokens`: in and out."""

    grade: int | None
    reason: str
    tokens: tuple[int, int]


@dataclass(frozen=True)
class Form:
    """How a server is asked: by which of `ASKING`, what it calls an answer's bound (empty: it takes none), whether the model may think."""

    asking: int = 0
    bound: str = "max_tokens"
    thinks: bool = True

    def parameters(self, room: int, without: Sequence[str]) -> dict[str, Any]:
        """What is sent beside the question, for an answer of so much `room`."""
        asked = {name: value for name, value in ASKING[self.asking].items() if name not in without}
        return asked | ({self.bound: room} if self.bound else {}) | ({} if self.thinks else {"enable_thinking": False})

    def after(self, refusal: str, answered: bool) -> Form:
        """The form to ask in once this one was refused with these words; itself where they change nothing."""
        for mend in MENDS:
            if mend.words.search(refusal) and not (answered and mend.at_first) and mend.change(self) != self:
                return mend.change(self)
        return self


class Mend(NamedTuple):
    """What a refusal with these words changes; where `at_first`, only until the server has answered a question."""

    words: re.Pattern[str]
    change: Callable[[Form], Form]
    at_first: bool


_OTHER = re.compile(rf"(?is)^(?!.*({_TOO_MUCH.pattern}|{_CONTENT.pattern}))")
# The first that changes something counts. Model Studio's mixed models think unless they are told not to, and refuse to do so in an answer
# that isn't streamed; OpenAI's newer models have another name for the bound.
MENDS = (
    Mend(re.compile("enable_thinking"), lambda form: replace(form, thinks=False), at_first=True),
    Mend(re.compile("max_completion_tokens"), lambda form: replace(form, bound=form.bound and "max_completion_tokens"), at_first=False),
    Mend(_OTHER, lambda form: replace(form, asking=min(form.asking + 1, len(ASKING) - 1)), at_first=True),
    Mend(_OTHER, lambda form: replace(form, bound=""), at_first=True),
)


class Pace:
    """At most so many requests a minute, evenly spaced, from however many threads."""

    def __init__(self, per_minute: float | None) -> None:
        self._apart, self._next, self._lock = 60 / per_minute if per_minute else 0.0, 0.0, Lock()

    def wait(self) -> None:
        """Sleep until it is this request's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self._apart
        time.sleep(max(0.0, turn - time.monotonic()))


class ChatJudge:
    """Grades pairs by a rubric, from several threads at once. What passes (429, time-outs, 5xx) is tried again by the `Client`.

    Answers are asked for as JSON by a schema; a server that refuses that is asked for a JSON object, and then in words alone. An answer has
    `ROOM`, and `MUCH_ROOM` from the first one on that ends within its thoughts: a model that repeats itself, which a schema doesn't keep
    it from, would go on to the end of its context. An answer without a grade is asked for again, with the model's own sampling in place of
    its likeliest words, then without a schema, for both are what such models repeat themselves under. What the model or the server refuses
    is no grade and says so.

    Raises EndpointError where the server takes no form of the first question, or cannot be reached.
    """

    def __init__(self, client: Client, model: str, rubric: Rubric, *, per_minute: float | None = None) -> None:
        self.client, self.model, self.rubric = client, model, rubric
        self._pace, self._room = Pace(per_minute), ROOM
        self._form, self._answered = Form(), False

    def messages(self, query: str, document: str) -> list[dict[str, str]]:
        """What is sent for this pair: the rubric, and the two texts as JSON so that neither can end the other."""
        told = json.dumps({"query": query[:LONGEST], "document": document[:LONGEST]}, ensure_ascii=False)
        return [{"role": "system", "content": self.rubric.text}, {"role": "user", "content": told}]

    def grade(self, query: str, document: str) -> Graded:
        """The grade of this pair."""
        messages = self.messages(query, document)
        tokens, last = (0, 0), ""
        for attempt in range(TRIES):
            try:
                said = self._ask(messages, without=("temperature", "response_format")[:attempt])
            except RefusedError as error:
                return Graded(None, f"the server refuses: {error.got}", tokens)
            tokens = tokens[0] + said.tokens[0], tokens[1] + said.tokens[1]
            if said.refusal:
                return Graded(None, f"the model refuses: {said.refusal}"[:500], tokens)
            found = parsed(said.text)
            if found is not None:
                return Graded(*found, tokens)
            if said.cut and not said.text.lstrip().startswith(("{", "```")):
                self._room = MUCH_ROOM
            last = f"{' (cut off)' * said.cut}: {' '.join(said.text.split())}"
        return Graded(None, f"no grade in {TRIES} answers, the last{last}"[:500], tokens)

    def _ask(self, messages: list[dict[str, str]], without: Sequence[str] = ()) -> Said:
        """One answer; raises RefusedError once the server has answered others in the same form, and for what lies in the texts: their
        length, what a filter makes of them."""
        bounded = True
        while True:
            form = self._form
            asked = form if bounded else replace(form, bound="")
            self._pace.wait()
            try:
                found = self.client.chat(self.model, messages, **asked.parameters(self._room, without))
            except RefusedError as error:
                if form != self._form:  # another thread has learned meanwhile how to ask
                    continue
                mended, too_much = form.after(error.got, self._answered), _TOO_MUCH.search(error.got)
                if mended != form:
                    self._form = mended
                elif too_much and asked.bound:
                    bounded = False
                elif too_much or self._answered or _CONTENT.search(error.got):
                    raise
                else:
                    raise EndpointError(
                        "the server takes no form of the question", where=self.client.url, got=error.got,
                        remedy="Check the model's name, and that the server serves chat completions.",
                    ) from None  # fmt: skip
                continue
            self._answered = True
            return found


def parsed(said: str) -> tuple[int, str] | None:
    """Grade and reason of an answer, also one with thoughts before it or words around it; None where there is no grade."""
    said = _THOUGHT.sub("", said).partition("<think>")[0]
    for found in reversed(_objects(said)):
        grade = found.get("grade")
        if isinstance(grade, str) and grade.strip().isdigit():
            grade = int(grade)
        if isinstance(grade, float) and grade.is_integer():
            grade = int(grade)
        if isinstance(grade, int) and not isinstance(grade, bool) and grade in GRADES:
            return grade, " ".join(str(found.get("reason") or "").split())[:500]
    last = [] if _objects(said) else list(_LAST.finditer(said))[-1:]
    return next(((int(each[1]), " ".join(said[: each.start()].split())[:500]) for each in last), None)


def _objects(said: str) -> list[dict[str, Any]]:
    """The JSON objects with a grade in an answer, in their order, whatever is around them."""
    found, place = [], said.find("{")
    while place >= 0:
        try:
            value, end = _decode(said, place)
        except (ValueError, RecursionError):
            value, end = {}, place + 1
        if "grade" in value:
            found.append(value)
        place = said.find("{", end if "grade" in value else place + 1)
    return found
