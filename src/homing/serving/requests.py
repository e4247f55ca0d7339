"""What requests ask for, checked field by field. Unknown fields are let pass, as clients send some of other servers'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from homing.encoders.tokens import Tokens
from homing.protocols import Kind
from homing.serving.refusals import invalid
from homing.serving.served import Served
from homing.settings import Serving

NO_TOKEN_ARRAYS = (
    "'input' holds token ids, which this server doesn't take: they mean something to this model's own tokenizer alone. "
    "Send texts; LangChain does with OpenAIEmbeddings(check_embedding_ctx_length=False). "
    "Ids of this model's own tokenizer are taken after homing serve --token-arrays."
)


def read(body: bytes) -> dict[str, Any]:
    """The body's JSON object. Raises Refusal where it is none."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The body is not valid JSON: {error.msg} at byte {error.pos}.", None, "invalid_json") from None
    if not isinstance(said, dict):
        raise invalid("The body is to be a JSON object.", None, "invalid_json")
    return said


@dataclass(frozen=True)
class Embeddings:
    """POST /v1/embeddings: `input` has no prompt yet, `kind` says whose it gets."""

    input: Sequence[str] | Tokens
    kind: Kind | None
    dimensions: int
    base64: bool

    @classmethod
    def of(cls, said: dict[str, Any], served: Served, limits: Serving) -> Embeddings:
        kind = served.kind(said.get("model"), said.get("task"))
        encoding = said.get("encoding_format")
        if encoding not in (None, "float", "base64"):
            raise invalid("'encoding_format' is to be 'float' or 'base64'.", "encoding_format")
        dimensions = said.get("dimensions")
        if dimensions is not None and (not isinstance(dimensions, int) or isinstance(dimensions, bool)):
            raise invalid("'dimensions' is to be an integer.", "dimensions", "invalid_type")
        if dimensions is not None and dimensions not in served.dimensions:
            here = ", ".join(map(str, served.dimensions))
            message = f"This model gives embeddings of {here} dimensions; others were not measured (homing serve --dimensions admits more)."
            raise invalid(message, "dimensions")
        given = said.get("input")
        if given is None:
            raise invalid("'input' is missing.", "input", "missing")
        input = _token_arrays(given, served, kind, limits) if _holds_token_ids(given) else _texts(given, "input", limits)
        return cls(input, kind, dimensions or served.dimensions[0], encoding == "base64")


@dataclass(frozen=True)
class Score:
    """POST /v1/score: pair i is queries[i] and documents[i], or the one query and documents[i]."""

    queries: Sequence[str]
    documents: Sequence[str]

    @classmethod
    def of(cls, said: dict[str, Any], served: Served, limits: Serving) -> Score:
        served.side(said.get("model"))
        queries, documents = _texts(said.get("text_1"), "text_1", limits), _texts(said.get("text_2"), "text_2", limits)
        if len(queries) not in (1, len(documents)):
            message = f"'text_1' holds {len(queries)} queries and 'text_2' {len(documents)} documents: send one query, or one a document."
            raise invalid(message, "text_1")
        return cls(queries, documents)


@dataclass(frozen=True)
class Rerank:
    """POST /v1/rerank: the best `top_n` documents for a query, all of them where it isn't said."""

    query: str
    documents: Sequence[str]
    top_n: int
    return_documents: bool

    @classmethod
    def of(cls, said: dict[str, Any], served: Served, limits: Serving) -> Rerank:
        served.side(said.get("model"))
        query, given = said.get("query"), said.get("documents")
        if not isinstance(query, str):
            raise invalid("'query' is to be a string.", "query", "invalid_type")
        if isinstance(given, list):
            given = [each.get("text") if isinstance(each, dict) else each for each in given]
        documents = _texts(given, "documents", limits)
        top_n = said.get("top_n")
        if top_n is not None and (not isinstance(top_n, int) or isinstance(top_n, bool) or top_n < 1):
            raise invalid("'top_n' is to be a positive integer.", "top_n")
        return cls(_texts(query, "query", limits)[0], documents, top_n or len(documents), said.get("return_documents") is True)


def _texts(given: object, param: str, limits: Serving) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if texts is None:
        raise invalid(f"'{param}' is missing.", param, "missing")
    if not isinstance(texts, list):
        raise invalid(f"'{param}' is to be a string or a list of strings.", param, "invalid_type")
    _few_enough(texts, param, limits)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise invalid(f"Text {place} of '{param}' is no string.", param, "invalid_type")
        if not text:
            raise invalid(f"Text {place} of '{param}' is empty.", param, "empty")
    return texts


def _holds_token_ids(given: object) -> bool:
    """Whether this is a list of numbers, or of lists of them, as its first one tells."""
    first = given[0] if isinstance(given, list) and given else None
    return type(first) is int or (isinstance(first, list) and all(type(each) is int for each in first[:1]))


def _token_arrays(given: list[Any], served: Served, kind: Kind | None, limits: Serving) -> Tokens:
    if not limits.token_arrays:
        raise invalid(NO_TOKEN_ARRAYS, "input", "token_arrays")
    if kind is not None and served.prompt(kind):
        raise invalid("The prompt cannot be put before token ids: leave 'task' out, and send the prompt's ids.", "task")
    arrays = given if isinstance(given[0], list) else [given]
    _few_enough(arrays, "input", limits)
    model = served.model(kind)
    known = len(model.transformer.tokenizer)
    for place, array in enumerate(arrays):
        if not isinstance(array, list) or not all(type(token) is int and 0 <= token < known for token in array):
            raise invalid(f"Array {place} of 'input' is to hold token ids from 0 to {known - 1:,}.", "input", "invalid_type")
    if limits.truncate:
        arrays = [array[: model.max_length] for array in arrays]
    return Tokens.of(arrays)


def _few_enough(texts: Sequence[object], param: str, limits: Serving) -> None:
    if not texts:
        raise invalid(f"'{param}' is empty.", param, "empty")
    if len(texts) > limits.max_texts:
        message = f"'{param}' holds {len(texts):,} texts; a request may have {limits.max_texts:,} (homing serve --max-texts)."
        raise invalid(message, param, "too_many_texts")
