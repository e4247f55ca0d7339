"""A table's first row: what its columns are called, in English or in Chinese."""

from __future__ import annotations

import re
from collections.abc import Sequence

QUERY = ("查询", "问题", "问句", "提问", "用户问题", "用户提问", "查询语句")
ANSWER = ("答案", "标准答案", "正确答案", "回答")
POSITIVE = ("正例", "正样本", "相关文档")
DOCUMENT = ("内容", "文档", "文本", "段落", "候选", "候选文档", "文档内容", *ANSWER)
LABEL = ("是否相关", "相关性", "相关", "标签", "标注")
ENGLISH = {
    "query": ("query", "anchor", "question", "sentence1"),
    "content": ("content", "document", "passage", "text", "sentence2", "answer"),
    "is_relevant": ("is_relevant", "label", "relevance", "score"),
    "positive": ("positive", "pos", "answer"),
}  # what the formats take, the name that stands for them first
_CHINESE = frozenset((*QUERY, *POSITIVE, *DOCUMENT, *LABEL))
_SIMPLIFIED = str.maketrans("問題詢內檔關標籤註負樣選對錯無確", "问题询内档关标签注负样选对错无确")
_NEGATIVE = re.compile(r"(?:负例|负样本|不相关文档)_?(\d*)")


def columns(names: Sequence[str]) -> list[str]:
    """The names of a table's columns as the formats know them: in lower case without blanks around them, and the Chinese ones that are
    usual for a query, a document, a label, a positive and negatives (also numbered) in English.

    A Chinese name stands for an English one that is not there itself, the first of several alone. An answer is a document where there is a
    label, and a positive where there is none. Every other name stays.
    """
    found = [_numbered(_simplified(name.strip().lower())) for name in names]
    in_rows = any(name in ("positive", "pos", *POSITIVE) or name.startswith("neg") for name in found)  # their label is the column's name
    labelled = not in_rows and any(name in (*ENGLISH["is_relevant"], *LABEL) for name in found)
    others = {"content": DOCUMENT, "is_relevant": LABEL} if labelled else {"positive": (*POSITIVE, *ANSWER)}
    for english, chinese in {"query": QUERY, **others}.items():
        first = next((name for name in chinese if name in found), None)
        if first is not None and not any(name in found for name in ENGLISH[english]):
            found = [english if name == first else name for name in found]
    return found


def _simplified(name: str) -> str:
    """A name or a label in traditional characters in the simplified ones that are looked for; every other name as it is."""
    turned = name.translate(_SIMPLIFIED)
    return turned if turned in _CHINESE or _NEGATIVE.fullmatch(turned) else name


def _numbered(name: str) -> str:
    match = _NEGATIVE.fullmatch(name)
    return name if match is None else f"negative_{match[1]}" if match[1] else "negative"
