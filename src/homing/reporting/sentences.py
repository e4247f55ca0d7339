"""The Chinese of sentences that are made elsewhere, by their English form: fields in braces stand for whatever the sentence has there."""

from __future__ import annotations

import re
from functools import cache

from homing.reporting.language import Phrase

SENTENCES = (
    (
        "Retrieval is over a closed pool: every document of the data; an unjudged one counts as not relevant.",
        "检索在封闭池中进行，即数据中的全部文档；未标注的文档按不相关计。",
    ),
    (
        "The intervals resample test queries; another training seed would add to them.",
        "区间由测试查询重采样得到；换一个训练随机种子还会带来额外的变化。",
    ),
    (
        "{n} test queries have no relevant document: they count in F1 and AP, not in the rankings.",
        "有 {n} 条测试查询没有相关文档：计入 F1 与 AP，不计入排序指标。",
    ),
    (
        "No non-relevant pair is judged in dev or in test: there is no AP and no F1.",
        "开发集或测试集中没有“不相关”标注，因此没有 AP 与 F1。",
    ),
    ("Only {n} test queries: small differences cannot be seen.", "只有 {n} 条测试查询，看不出小的差异。"),
    (
        "On dev nothing that was learned beat the base by more than the standard error: the model's directory holds the base.",
        "开发集上学到的改动都没有以超过标准误的幅度胜过基座模型，因此模型目录里存放的是基座模型。",
    ),
    (
        "The split lets positives be shared between train and test, as was asked for: new questions to known answers.",
        "按要求，划分允许训练集与测试集共享相关文档：答案已知，问题是新的。",
    ),
)
_FIELD = re.compile(r"\\\{(\w+)\\\}")


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(_FIELD.sub(r"(?P<\1>.+?)", re.escape(english)), re.DOTALL), chinese) for english, chinese in SENTENCES]


def in_both(sentence: str) -> Phrase:
    """The sentence in both languages; in English twice where the table lacks it."""
    for pattern, chinese in _patterns():
        if found := pattern.fullmatch(sentence):
            return Phrase(sentence, chinese.format(**found.groupdict()))
    return Phrase(sentence, sentence)
