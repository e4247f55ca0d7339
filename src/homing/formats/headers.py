"""What columns and keys are called: the names that the formats know, in English in any case, and in Chinese."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from homing.formats.fields import TITLE, simplified

STANDARD = ("标准问题", "标准问法", "标准问句", "标准问", "知识标题")
ASKED = ("查询", "问题", "问句", "提问", "用户问题", "用户提问", "查询语句", "句子1", "文本1", "问题1")
QUERY = (*ASKED, *STANDARD)
ANSWER = ("答案", "标准答案", "正确答案", "参考答案", "回答", "回复", "机器人回答")
DOCUMENT = (
    "内容", "正文", "文档", "文本", "文章", "段落", "候选", "候选文档", "候选答案", "文档内容", "文本内容", "段落内容", *ANSWER, "句子2",
    "文本2", "问题2", "相似问题", "相似问", *STANDARD,
)  # fmt: skip
LABEL = ("是否相关", "相关性", "相关", "相关度", "标签", "标注", "标注结果", "是否相似", "是否匹配", "是否正确")
ENGLISH = {
    "query": ("query", "anchor", "question", "sentence1", "question1"),
    "content": ("content", "document", "passage", "text", "sentence2", "question2", "answer"),
    "is_relevant": ("is_relevant", "label", "relevance", "score", "relevant", "is_duplicate"),
    "positive": ("positive", "pos", "positives", "answer"),
    "question": ("question", "query"),
    "answer": ("answer",),
}  # what the formats take, the name that stands for them first
OTHERS = (
    "title", "metadata", "response", "rejected_response", "messages", "positive_messages", "negative_messages", "query_id",
    "positive_passages", "negative_passages", "positive_ctxs", "negative_ctxs", "hard_negative_ctxs",
)  # fmt: skip
PARTS = {"query": "query", "content": "document", "is_relevant": "label", "positive": "relevant document"}  # in words
_CHINESE = frozenset((*QUERY, *DOCUMENT, *LABEL, *TITLE))
_ENGLISH = frozenset((*OTHERS, *(name for names in ENGLISH.values() for name in names)))
POSITIVES = re.compile(r"(?:positive|pos)s?(?:_?\d+)?")
_POSITIVE = re.compile(r"(?:正例|正样本|相关文档)_?(\d*)")
_NEGATIVE = re.compile(r"(?:负例|负样本|不相关文档)_?(\d*)")
_SIMILAR = re.compile(
    r"(?:问题)?(?:相似|扩展|类似|同义)(?:问题|问法|问句|提问|说法|问)_?(\d*)|(?:similar|alternative)[ _]?questions?[ _]?(\d*)"
)
_NUMBERED = re.compile(r"(?:(?:hard_)?(?:negative|neg)s?|(?:positive|pos)s?|similar_question)(?:_?\d+)?")
_HINT = re.compile(r"^\*\s*|\s*\*$|\s*[（(\[【][^（(\[【]*[)）\]】]$")  # as templates have them: 问题(必填), *答案


def columns(names: Sequence[str]) -> list[str]:
    """The names of a table's columns as the formats know them: in lower case without blanks around them, and the Chinese ones that are
    usual for a query, a document, a label, positives, negatives and similar questions (these also numbered) in English.

    A Chinese name stands for an English one that is not there itself, the first of several alone. An answer is a document where there is a
    label, and a positive where there is none; beside similar questions it is the answer to all of them. Every other name stays.
    """
    found = [_known(name.strip().lower()) for name in names]
    positive = any(map(POSITIVES.fullmatch, found))
    in_rows = positive or any(name.startswith(("neg", "hard_neg")) for name in found)  # their label is the column's name
    judged = (any(name in (*ENGLISH[kind], *own) for name in found) for kind, own in (("is_relevant", LABEL), ("content", DOCUMENT)))
    labelled = not in_rows and all(judged)
    asked = _asked_alike(found)
    answered = any(_SIMILAR.fullmatch(name) for name in found) and any(name in ("answer", *ANSWER) for name in found)
    if asked is not None and not in_rows and (answered or not labelled):
        return asked
    others = {"content": DOCUMENT, "is_relevant": LABEL} if labelled else {} if positive else {"positive": ANSWER}
    for english, chinese in {"query": QUERY, **others}.items():
        found = _translated(found, english, chinese)
    return found


def parts(names: Sequence[str]) -> dict[str, str]:
    """What of a judgment these names are known to hold, and under which name each: some of the keys of `PARTS`."""
    named = dict(zip((_known(name.strip().lower()) for name in reversed(names)), reversed(names), strict=True))
    known = {part: (*ENGLISH[part], *own) for part, own in zip(PARTS, (QUERY, DOCUMENT, LABEL, ()), strict=True)}
    found = {part: next((named[name] for name in of if name in named), None) for part, of in known.items()}
    return {part: name for part, name in found.items() if name is not None}


@lru_cache(1 << 10)
def keys(names: tuple[str, ...]) -> dict[str, str] | None:
    """The keys of an object with the names that they are read under, None where these are all their own.

    Those that `columns` makes a name of the formats are: other keys are the user's, and stay, and so do two that would become one.
    """
    found = {
        name: known if known in _ENGLISH or _NUMBERED.fullmatch(known) else name
        for name, known in zip(names, columns(names), strict=True)
    }  # fmt: skip
    taken = list(found.values())
    found = {name: known if taken.count(known) == 1 else name for name, known in found.items()}
    return None if all(name == known for name, known in found.items()) else found


def _translated(found: list[str], english: str, names: Sequence[str]) -> list[str]:
    """The columns with the first of these names called `english`, where no English name is there for it."""
    first = next((name for name in names if name in found), None)
    if first is None or any(name in found for name in ENGLISH[english]):
        return found
    return [english if name == first else name for name in found]


def _asked_alike(found: list[str]) -> list[str] | None:
    """The names of a table of standard questions with others that ask the same: `question`, `similar_question` (also numbered), `answer`.

    None for any other table. A question beside a standard one is one of the others.
    """
    named = [f"similar_question_{number}".rstrip("_") if (number := _number(_SIMILAR, name)) is not None else name for name in found]
    if named == found and any(name in found for name in STANDARD):
        asked = next((name for name in ("question", *ASKED) if name in found), None)
        named = ["similar_question" if name == asked else name for name in found]
    if named == found:
        return None
    for english, names in (("question", (*STANDARD, *ASKED)), ("answer", ANSWER)):
        named = _translated(named, english, names)
    return named


def _known(name: str) -> str:
    """A Chinese name that is known, in simplified characters, without what templates put around it; positives and negatives in English;
    else itself."""
    turned = _HINT.sub("", simplified(name))
    for english, pattern in (("positive", _POSITIVE), ("negative", _NEGATIVE)):
        if (number := _number(pattern, turned)) is not None:
            return f"{english}_{number}".rstrip("_")
    return turned if turned in _CHINESE or _SIMILAR.fullmatch(turned) else name


def _number(pattern: re.Pattern[str], name: str) -> str | None:
    """The number at the end of a name of this pattern, perhaps empty; None for another name."""
    match = pattern.fullmatch(name)
    return None if match is None else "".join(filter(None, match.groups()))
