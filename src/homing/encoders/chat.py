"""A chat model behind an OpenAI-compatible API as a judge of relevance: a rubric, one query and one document, one grade."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

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
# Model Studio's mixed models think unless they are told not to, and refuse to do so in an answer that isn't streamed.
_THOUGHTLESS = {"enable_thinking": False}
_TOO_MUCH = re.compile(r"max_(completion_)?tokens|context.?length|too.?long|reduce.the.length", re.IGNORECASE)
_THOUGHT = re.compile(r"(<think>)?.*?</think>", re.DOTALL)  # some templates write the first tag into the question
_decode = json.JSONDecoder().raw_decode


@dataclass(frozen=True)
class Graded:
    """A grade with its reason; None where the model would not or could not give one, which `reason` then says. `tokens`: in and out."""

    grade: int | None
    reason: str
    tokens: tuple[int, int]


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
        self._pace, self._asking = Pace(per_minute), 0
        self._taken: int | None = None  # the form of asking that the server has answered
        self._beside: dict[str, Any] = {}  # what is asked beside that form
        self._bound, self._room = "max_tokens", ROOM  # what the server calls an answer's bound, none where it takes none

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
        """One answer; raises RefusedError once the server has answered others in the same form, and for a question that is too long."""
        bounded = True
        while True:
            asking, bound = self._asking, self._bound
            form = {name: value for name, value in ASKING[asking].items() if name not in without}
            room = {bound: self._room} if bounded and bound else {}
            self._pace.wait()
            try:
                found = self.client.chat(self.model, messages, **form, **room, **self._beside)
            except RefusedError as error:
                if "enable_thinking" in error.got and not self._beside and self._taken is None:
                    self._beside = _THOUGHTLESS
                elif room and "max_completion_tokens" in error.got and bound == "max_tokens":
                    self._bound = "max_completion_tokens"
                elif room and _TOO_MUCH.search(error.got):
                    bounded = False
                elif _TOO_MUCH.search(error.got) or (self._taken is not None and asking >= self._taken):
                    raise
                elif asking + 1 < len(ASKING):
                    self._asking = max(self._asking, asking + 1)
                elif room:
                    self._bound = ""
                else:
                    raise EndpointError(
                        "the server takes no form of the question", where=self.client.url, got=error.got,
                        remedy="Check the model's name, and that the server serves chat completions.",
                    ) from None  # fmt: skip
                continue
            self._taken = asking
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
    return None


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
