"""Verify a server: what it embeds compared with the local model, and what it does otherwise named, with the remedy.

Texts are sent to the server and embedded here. Where the two differ, the texts are embedded here once more in every way that servers are
known to go wrong (`homing.encoders.faults`), and the way that gives the server's own embeddings is what it does.

| module | holds |
|---|---|
| `side` | one side compared, and what it does otherwise found out |
| `verification` | what the comparison came to |
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from homing.encoders.endpoint import Endpoint
from homing.encoders.model import Model
from homing.encoders.pair import Pair
from homing.errors import SettingError
from homing.progress import Say
from homing.protocols import Kind
from homing.verifying.side import Side, largest, model_of
from homing.verifying.verification import Compared, Finding, Verification, joined

__all__ = ["Verification", "verify"]

TOLERANCE = 1e-3  # a cosine distance: what bfloat16 differs by

QUERIES = (
    "how do I reset my password", "hail damage", "保证期间有多长？", "find files larger than 100 MB", "Which hail does the policy cover?",
    "请问如何查看当前目录下所有文件的大小", "a", "What did the patients with high blood pressure take, and for how long were they treated?",
)  # fmt: skip
DOCUMENTS = (
    "Ice floats because it is less dense than the water around it.",
    "保证期间是确定保证人承担保证责任的期间，不发生中止、中断和延长。",
    "find . -name '*.py' -mtime -1 | xargs grep -l TODO",
    "To reset your password, open the settings, choose Security, and follow the link that is sent to you.",
    "The policy covers damage by hail,\nstorm and flood. It does not cover wear.",
    "Yes.",
    "劳动者在试用期内提前三日通知用人单位，可以解除劳动合同。",
    "Patients with high blood pressure were treated for twelve weeks; the medicine lowered it in most of them.",
)


def verify(
    model: Model | Pair, endpoint: Endpoint, documents_endpoint: Endpoint | None = None, *, queries: Sequence[str] = QUERIES,
    documents: Sequence[str] = DOCUMENTS, bare: bool = False, tolerance: float = TOLERANCE,
    say: Say = lambda line: None,
) -> Verification:  # fmt: skip
    """Compare a server with the model that it should serve.

    `documents_endpoint`: where documents are embedded elsewhere than queries. `bare`: the server puts the prompts, so texts are sent
    without. A `homing serve` is asked with its parameter `task` as well. `tolerance`: the cosine distance that a number format may cost.
    Texts are shortened to the model's length: what a server does beyond it is asked with a text of its own.

    Raises SettingError for a tolerance that is none, or less than two queries or documents that fit, EndpointError where the server cannot
    be asked.
    """
    if not 0 < tolerance < 2:
        raise SettingError("the tolerance is out of range", got=f"{tolerance:g}", expected="a cosine distance above 0")
    texts: dict[Kind, list[str]] = {"query": _shortened(model, queries, "query"), "document": _shortened(model, documents, "document")}
    if min(map(len, texts.values())) < 2:
        raise SettingError(
            "there is too little to compare", got=" and ".join(f"{len(each)} different {kind} texts" for kind, each in texts.items()),
            expected=f"2 of each, with room beside the prompt in the model's {model_of(model, 'query').max_length} tokens",
            remedy="Give more texts, or raise --max-length.",
        )  # fmt: skip
    servers: dict[Kind, Endpoint] = {"query": endpoint, "document": documents_endpoint or endpoint}
    sides = [Side(model, kind, server, texts[kind], tolerance) for kind, server in servers.items()]
    compared, findings = list[Compared](), list[Finding]()
    for side in sides:
        say(f"{side.kind}: {len(side.texts)} texts")
        for sent in side.ways_of_sending(bare):
            compared.append(side.compare(sent))
            findings += side.findings
    changed = _changed(*sides)
    told = joined(findings, {each.sent for each in compared})
    return Verification(
        model.name, endpoint.client.url, tuple(compared), told, int(changed.any(axis=1).sum()), int(changed[:, -1].sum()),
        len(changed),
    )  # fmt: skip


def _changed(queries: Side, documents: Side) -> NDArray[np.bool_]:
    """Whether a query has another document at a rank by the server's embeddings than by the model's; shape (queries, ranks), the best last.

    Where the server's sides have two dimensions, nothing can be ranked, and all is another.
    """
    if queries.received.shape[1] != documents.received.shape[1]:
        return np.ones((len(queries.texts), 1), dtype=np.bool_)
    pairs = (queries.wanted, documents.wanted), (queries.received, documents.received)
    here, there = ((asked @ found.T).argsort(axis=1, kind="stable") for asked, found in pairs)
    changed: NDArray[np.bool_] = here != there
    return changed


def _shortened(model: Model | Pair, texts: Sequence[str], kind: Kind) -> list[str]:
    """The different texts, each cut to what fits into the model's length beside its prompt; without those that nothing is left of."""
    own = model_of(model, kind)

    def fitting(text: str) -> str:
        return text[: largest(len(text), lambda end: own.token_counts([text[:end]], kind)[0][0] <= own.max_length)].strip()

    counts = own.token_counts(texts, kind)[0].tolist()
    cut = (text if count <= own.max_length else fitting(text) for text, count in zip(texts, counts, strict=True))
    return list(dict.fromkeys(filter(None, cut)))
