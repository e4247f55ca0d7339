"""A few instructions tried on the untrained base, on dev: a tuned model is compared with the base as it does best."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from homing.data import Dataset
from homing.encoders.prompted import prompted
from homing.errors import FormatError
from homing.protocols import Encoder
from homing.sample import Sample
from homing.verdicts.context import Instructions, Tried

QUERIES, DOCUMENTS = 200, 2000  # of dev that the instructions are tried on
MOST = 100  # tasks of a file
TASKS = (
    "Given a web search query, retrieve relevant passages that answer the query",
    "Given a question, retrieve the documents that answer it",
    "Given a description, retrieve what it describes",
    "Retrieve text that means the same as the query",
)
_FORM = re.compile(r"(Instruct: ?)(.*?)(\n.*)", re.DOTALL)


def takes_instructions(base: Encoder) -> bool:
    """Whether the base's queries begin with an instruction."""
    return _FORM.fullmatch(base.prompts["query"]) is not None


def read_tasks(file: Path) -> tuple[str, ...]:
    """The tasks of a file, one a line. Raises FormatError where there is none, or the file cannot be read."""
    try:
        tasks = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, ValueError) as error:
        raise FormatError(
            "the instructions cannot be read", where=str(file), got=str(error), expected="text in UTF-8, a task a line"
        ) from None
    if not tasks:
        raise FormatError("the file of instructions is empty", where=str(file), expected="a task a line")
    if len(tasks) > MOST or tasks[0].startswith(("{", "[")):
        raise FormatError(
            "these are hardly instructions, each of which is tried on dev", where=str(file),
            got=f"{len(tasks):,} lines, the first {tasks[0][:40]!r}", expected=f"a task a line, {MOST} at most",
        )  # fmt: skip
    return tasks


def prompts(base: Encoder, tasks: Sequence[str] = ()) -> list[str]:
    """The query prompts to try, each once: the base's own, none, those of the built-in tasks and of `tasks` in the base's form."""
    matched = _FORM.fullmatch(base.prompts["query"])
    before, after = (matched[1], matched[3]) if matched else ("Instruct: ", "\nQuery:")
    return list(dict.fromkeys([base.prompts["query"], "", *(f"{before}{task}{after}" for task in (*TASKS, *tasks))]))


def try_instructions(base: Encoder, dev: Dataset, tasks: Sequence[str] = (), seed: int = 42) -> Instructions:
    """nDCG@10 of the base under each prompt of `prompts`, on a sample of dev; of equal ones the earlier is chosen."""
    sample = Sample.drawn(dev, QUERIES, DOCUMENTS, seed)
    tried = prompts(base, tasks)
    values = sample.ndcg_of([prompted(base, prompt) for prompt in tried], "base: documents of dev")
    found = [Tried(prompt, float(each.mean())) for prompt, each in zip(tried, values, strict=True)]
    best = found[int(np.argmax([each.ndcg for each in found]))]
    return Instructions(len(sample.queries), len(sample.documents), tuple(found), best.prompt)
