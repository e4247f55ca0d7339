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
_NEGATIVE = re.compile(r"(?:负例|负样本|不相关文档)_?(\d*)")


def columns(names: Sequence[str]) -> list[str]:
    """The names of a table's columns as the formats know them: in lower case without blanks around them, and the Chinese ones that are
    usual for a query, a document, a label, a positive and negatives (also numbered) in English.

    A Chinese name stands for an English one that is not there itself, the first of several alone. An answer is a document where there is a
    label, and a positive where there is none. Every other name stays.
    """
    found = [_numbered(name.strip().lower()) for name in names]
    in_rows = any(name in ("positive", "pos", *POSITIVE) or name.startswith("neg") for name in found)  # their label is the column's name
    labelled = not in_rows and any(name in (*ENGLISH["is_relevant"], *LABEL) for name in found)
    others = {"content": DOCUMENT, "is_relevant": LABEL} if labelled else {"positive": (*POSITIVE, *ANSWER)}
    for english, chinese in {"query": QUERY, **others}.items():
        first = next((name for name in chinese if name in found), None)
        if first is not None and not any(name in found for name in ENGLISH[english]):
            found = [english if name == first else name for name in found]
    return found


def _numbered(name: str) -> str:
    match = _NEGATIVE.fullmatch(name)
    return name if match is None else f"negative_{match[1]}" if match[1] else "negative"
