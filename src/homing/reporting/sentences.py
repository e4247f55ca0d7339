"""The Chinese of sentences, and of slices' labels, that are made elsewhere, by their English form: fields in braces stand for whatever the sentence has there."""

from __future__ import annotations

import re
from functools import cache

from homing.reporting.language import Phrase

SENTENCES = (
    ("{model} alone was measured: there is nothing to compare it with.", "只评测了 {model}，没有可比较的对象。"),
    (
        "The verdict is on {last}, the model given last. The table and the differences to {first} have {others} too; for a verdict on another,"
        " give it last.",
        "结论针对最后给出的模型 {last}。{others} 也列在表格和与 {first} 的差异中；想看其中另一个的结论，请把它放在最后。",
    ),
    (
        "Retrieval is over a closed pool: every document of the data; an unjudged one counts as not relevant.",
        "检索在封闭池中进行，即数据中的全部文档；未标注的文档按不相关计。",
    ),
    (
        "The intervals resample test queries; they leave out that another training seed gives another model.",
        "区间由测试查询重采样得到；不含换一个训练随机种子会得到另一个模型的变化。",
    ),
    (
        "The intervals resample {n} groups of test queries that hang together; they leave out that another training seed gives another model.",
        "区间由 {n} 组相互关联的测试查询整组重采样得到；不含换一个训练随机种子会得到另一个模型的变化。",
    ),
    (
        "The intervals resample test queries; but for the mean over seeds they leave out that another training seed gives another model.",
        "区间由测试查询重采样得到；除多种子平均之外，不含换一个训练随机种子会得到另一个模型的变化。",
    ),
    (
        "The intervals resample {n} groups of test queries that hang together; but for the mean over seeds they leave out that another training"
        " seed gives another model.",
        "区间由 {n} 组相互关联的测试查询整组重采样得到；除多种子平均之外，不含换一个训练随机种子会得到另一个模型的变化。",
    ),
    (
        "Judged@10 is {before} for {first} and {after} for {last}; over judged documents alone nDCG@10 differs by {alone}: it says the same.",
        "{first} 的 Judged@10 为 {before}，{last} 为 {after}；只计已标注文档时，nDCG@10 相差 {alone}：结论相同。",
    ),
    (
        "Judged@10 is {before} for {first} and {after} for {last}: with so different shares of judged documents nDCG@10 does not rank these"
        " two; over judged documents alone it differs by {alone}. Judge the first ten of both.",
        "{first} 的 Judged@10 为 {before}，{last} 为 {after}：已标注文档的比例相差太大，nDCG@10 不能给它们排名；只计已标注文档时相差 {alone}。请标注两者的前十篇。",
    ),
    (
        "Judged@10 is {before} for {first} and {after} for {last}: with so different shares of judged documents nDCG@10 does not rank these"
        " two. Judge the first ten of both.",
        "{first} 的 Judged@10 为 {before}，{last} 为 {after}：已标注文档的比例相差太大，nDCG@10 不能给它们排名。请标注两者的前十篇。",
    ),
    (
        "{best}, which needs no training, does better on these queries than {last}: use it instead, or beside a model.",
        "在这些查询上，{best} 优于 {last}，而且不需要训练：可以改用它，或让它与模型并用。",
    ),
    (
        "At {first}'s threshold ({threshold}) {last} would have F1 {borrowed} instead of {own}: a new model needs its new threshold. Lower"
        " scores are no worse scores.",
        "若沿用 {first} 的阈值（{threshold}），{last} 的 F1 为 {borrowed}，而不是 {own}：新模型要用新阈值。分数变低不等于变差。",
    ),
    (
        "Taking off the mean score of a query's nearest documents ({n} of them) before the threshold gives F1 {f1} on test instead"
        " of {plain}; on dev it gains {gain}.",
        "在比较阈值之前减去该查询与其最近的 {n} 篇文档的平均分，测试集 F1 为 {f1}，而不是 {plain}；开发集上变化 {gain}。",
    ),
    (
        "{n} test queries have no relevant document: they count in F1 and AP, not in the rankings.",
        "有 {n} 条测试查询没有相关文档：计入 F1 与 AP，不计入排序指标。",
    ),
    (
        "No non-relevant pair is judged in test: there is no AP and no F1.",
        "测试集中没有“不相关”标注，因此没有 AP 与 F1。",
    ),
    (
        "The judged pairs of dev are all relevant, or none is: there is no threshold and no F1.",
        "开发集的标注全是相关，或全是不相关，因此没有阈值与 F1。",
    ),
    (
        "Groups of test queries that hang together: only {n}. No difference can be shown, however large, and there are no intervals.",
        "测试查询只有 {n} 个相互独立的组：多大的差异也无法确认，也给不出区间。",
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
    (
        "Test was given as it is. Train shares {queries} of its {all} queries, {near} more in nearly the same words, and {documents} of its"
        " relevant documents. Results may look better than they are.",
        "测试集按给定的使用：其 {all} 条查询中有 {queries} 条在训练集里，{near} 条与训练集的几乎相同；其相关文档中有 {documents} 篇在训练集里也是相关的。结果可能偏高。",
    ),
    (
        "{queries} test queries are in dev, {near} nearly so: checkpoint, share and threshold were chosen on them. Results may look better"
        " than they are.",
        "测试查询中有 {queries} 条在开发集里，{near} 条与开发集的几乎相同：检查点、保留比例和阈值都是在它们上面选的。结果可能偏高。",
    ),
    (
        "{last} scores every pair as {deployed} does: it is the same model, and dev liked nothing better that was learned since.",
        "{last} 给每一对的分数都与 {deployed} 相同：两者是同一个模型，之后学到的都没有让开发集更好。",
    ),
    ("{fused} is better still: nDCG@10 {gain} over {last} alone.", "{fused} 更好：与单用 {last} 相比，nDCG@10 {gain}。"),
    # Why it is not deployed: name, evidence, experiment
    ("it does worse than {rival}", "不如 {rival}"),
    ("it is not shown to be better than {rival}", "看不出优于 {rival}"),
    (
        "Against {rival}: {gains}. These test queries show a difference in nDCG@10 of {detectable} or more, not one of {worthwhile}.",
        "与 {rival} 相比，{gains}。这些测试查询有八成把握检出 {detectable} 及以上的 nDCG@10 差异，检不出 {worthwhile} 的差异。",
    ),
    ("Against {rival}: {gains}.", "与 {rival} 相比，{gains}。"),
    ("Train for longer, or on more judgments.", "延长训练，或用更多标注训练。"),
    # Causes of no gain: name, evidence, experiment
    ("the test is too small to show a gain", "测试集太小，看不出提升"),
    (
        "Groups of its queries that share no relevant document: {n}. Fewer than {least} can show nothing.",
        "测试查询只有 {n} 个互不共享相关文档的组；少于 {least} 组时，任何差异都无法确认。",
    ),
    (
        "It shows a difference in nDCG@10 of {detectable} or more (in four of five draws), not one of {worthwhile}.",
        "它有八成把握检出 {detectable} 及以上的 nDCG@10 差异，检不出 {worthwhile} 的差异。",
    ),
    (
        "Judge test queries with other relevant documents, some hundred in all, and evaluate again: no training is needed for it"
        " (homing split RUN/dataset --test FILE, of old and new ones).",
        "再标注一些相关文档不同的测试查询，总数到一百条左右，然后重新评测：无需重新训练（homing split RUN/dataset --test FILE，FILE 含新旧全部测试查询）。",
    ),
    (
        "Judge more test queries, about {needed} in all, and evaluate again: no training is needed for it"
        " (homing split RUN/dataset --test FILE, of old and new ones).",
        "再标注一些测试查询，总数到 {needed} 条左右，然后重新评测：无需重新训练（homing split RUN/dataset --test FILE，FILE 含新旧全部测试查询）。",
    ),
    ("other seeds do not bear it out", "换随机种子后未能印证"),
    ("{last} alone differs by {gains}, the mean over seeds by {means}.", "单看 {last} 相差 {gains}，各种子的平均相差 {means}。"),
    (
        "Train under more --seeds: the fewer there are, the wider the interval of their mean.",
        "增大 --seeds 再训练：种子越少，其平均的区间越宽。",
    ),
    ("the order within a query is better, scores over all queries are not", "查询内的排序变好了，跨查询的分数没有"),
    (
        "nDCG@10 differs by {gain}, AP over the pairs of all queries by {pooled}.",
        "nDCG@10 相差 {gain}，全部查询的标注对合在一起的 AP 相差 {pooled}。",
    ),
    (
        "If documents are only ranked within a query, that is enough: deploy {last}. For one threshold over all queries judge more test queries,"
        " or train with --cross-query 0.1.",
        "如果只在每条查询之内给文档排序，这就够了：可以部署 {last}。若要所有查询共用一个阈值，请标注更多测试查询，或用 --cross-query 0.1 训练。",
    ),
    ("what the two models find is judged to different shares", "两个模型检出的文档，已标注的比例不同"),
    (
        "Judged@10 is {before} for {first} and {after} for {last}: nDCG@10 does not decide between them. With unjudged documents as not"
        " relevant it differs by {gain}, over judged documents alone by {alone}.",
        "{first} 的 Judged@10 为 {before}，{last} 为 {after}：nDCG@10 不能判定两者的优劣。未标注文档按不相关计时相差 {gain}，只计已标注文档时相差 {alone}。",
    ),
    (
        "Judged@10 is {before} for {first} and {after} for {last}: nDCG@10 does not decide between them.",
        "{first} 的 Judged@10 为 {before}，{last} 为 {after}：nDCG@10 不能判定两者的优劣。",
    ),
    (
        "Judge the first ten documents of {first} and of {last} for the test queries (homing audit RUN --test lists them, the likeliest first;"
        " --top says how many), and evaluate again:"
        " no training is needed for it.",
        "为测试查询标注 {first} 与 {last} 各自的前十篇文档（homing audit RUN --test 会列出，最可疑的在前；条数由 --top 指定），然后重新评测：无需重新训练。",
    ),
    ("to the base, the judgments are chance", "对基座模型来说，标注近乎随机"),
    (
        "{model} has ROC AUC {value} over the judged pairs, and 0.5 is a coin's.",
        "{model} 在标注对上的 ROC AUC 只有 {value}，而 0.5 就是抛硬币的水平。",
    ),
    (
        "Read twenty judged pairs: if they are right, take a base that knows the language and the field; if not, mend them.",
        "抽二十个标注对读一读：若标注无误，换一个懂这门语言和领域的基座模型；若有误，先修正标注。",
    ),
    (
        "{model} has ROC AUC {value} over the judged pairs, and 0.5 is a coin's. Grades go up to {highest}, and each from 1 on counts as"
        " relevant.",
        "{model} 在标注对上的 ROC AUC 只有 {value}，而 0.5 就是抛硬币的水平。标注分级最高为 {highest}，其中 1 级及以上都按相关计。",
    ),
    (
        "Read twenty judged pairs: if they are right, take a base that knows the language and the field; if not, mend them: write 0 for grades"
        " that stand for documents that are not relevant.",
        "抽二十个标注对读一读：若标注无误，换一个懂这门语言和领域的基座模型；若有误，先修正标注：代表不相关的级别改写为 0。",
    ),
    ("the base is near the ceiling", "基座模型已接近上限"),
    (
        "{model} has nDCG@10 {value}: {left} is left to gain, wrong and missing judgments included.",
        "{model} 的 nDCG@10 已达 {value}：余下的提升空间只有 {left}，其中还包括错标和漏标。",
    ),
    (
        "Test on harder queries: those that users asked again, or whose first result they did not take.",
        "用更难的查询来测试：用户换说法再问的，或没有采用第一条结果的。",
    ),
    ("relevant documents that nobody judged", "有相关文档没人标注"),
    (
        "For {share} of the test queries {model} and {other} put the same unjudged document first, above every relevant one.",
        "有 {share} 的测试查询，{model} 和 {other} 都把同一篇未标注的文档排在第一，高于全部相关文档。",
    ),
    (
        "Judge these first places (homing audit RUN --test lists them, the likeliest first; --top says how many), then evaluate again:"
        " no training is needed for it.",
        "标注这些排在第一的文档（homing audit RUN --test 会列出，最可疑的在前；条数由 --top 指定），再评测一次：无需重新训练。",
    ),
    ("the run's prompt does not suit the base", "本次运行的提示词不适合基座模型"),
    (
        "On dev the base has nDCG@10 {best} with the prompt {prompt}, and {own} with the run's own.",
        "未训练的基座模型在开发集上的 nDCG@10：用提示词 {prompt} 时为 {best}，用本次运行的提示词时为 {own}。",
    ),
    ("Train with that prompt: --query-prompt {prompt}", "用那个提示词训练：--query-prompt {prompt}"),
    ("positives cut by the length cap", "正例被长度上限截断"),
    (
        "{share} of the training positives are longer than {n} tokens; what lies beyond was never seen.",
        "{share} 的训练正例超过 {n} 个词元，超出的部分模型从未见过。",
    ),
    ("Train with a higher --max-length, or split documents into passages.", "用更大的 --max-length 训练，或把文档切成段落。"),
    ("the test asks for documents that training never saw as relevant", "测试要找的文档，训练时从未作为相关文档出现"),
    (
        "Training had {queries} queries with a relevant document, and {documents} relevant documents for all of them: none of these is relevant"
        " to a test query.",
        "训练集中有相关文档的查询有 {queries} 条，它们的相关文档一共只有 {documents} 篇：其中没有一篇与任何测试查询相关。",
    ),
    (
        "If the documents are a fixed set, and new questions are asked about them, split with --split-by query.",
        "若文档是固定的一批，以后只是不断有新问题来问它们，请用 --split-by query 划分。",
    ),
    ("train and test unlike each other", "训练集与测试集不像"),
    (
        "{unseen} of the words of test queries are in no training query; between the halves of training it is {expected}.",
        "测试查询中有 {unseen} 的词不在任何训练查询中；训练集两半之间这一比例为 {expected}。",
    ),
    (
        "Compare a few training and test queries by eye; judge queries like those of the test, and train on them.",
        "抽几条训练查询和测试查询对照着看；标注一些与测试查询相似的查询，再用来训练。",
    ),
    ("the base cannot read the texts", "基座模型读不懂这些文本"),
    (
        "{share} of the tokens of the training positives are unknown to its vocabulary.",
        "训练正例中有 {share} 的词元不在它的词表里。",
    ),
    ("Take a base that knows the language of these texts.", "换一个懂这些文本所用语言的基座模型。"),
    ("the training was too short", "训练时间太短"),
    (
        "In the time of --minutes {minutes} it saw {share} of its queries; updates: {updates}.",
        "在 --minutes {minutes} 给定的时间里，只学了 {share} 的训练查询，更新 {updates} 步。",
    ),
    ("Train with more --minutes, or on a faster machine.", "加大 --minutes 再训练，或换一台更快的机器。"),
    ("too few queries to learn from", "可学习的查询太少"),
    ("Training had {n} queries with a relevant document.", "训练集中有相关文档的查询只有 {n} 条。"),
    (
        "Judge twice as many training queries; --learning-curve tells beforehand what that would bring.",
        "把训练查询的标注量增加一倍；--learning-curve 可以事先估计能带来多少提升。",
    ),
    ("the learning rate is too high: the base was forgotten", "学习率过高：基座的能力被遗忘"),
    ("nDCG@10 on dev went from {before} untrained to {after} at the end", "开发集 nDCG@10 从未训练时的 {before} 变为结束时的 {after}"),
    ("outside the domain from {before} to {after}", "领域之外从 {before} 变为 {after}"),
    ("on test from {before} to {after}", "测试集上从 {before} 变为 {after}"),
    ("dev kept nothing of what was learned", "开发集没有保留任何学到的改动"),
    ("Train with a third of the learning rate (peak {rate}), all else equal.", "其他不变，把学习率降到三分之一再训练（原峰值 {rate}）。"),
    ("Train with a third of the learning rate, all else equal.", "其他不变，把学习率降到三分之一再训练。"),
)
LABELS = (
    ("up to {n} characters", "不超过 {n} 字符"),
    ("{low} to {high} characters", "{low} 至 {high} 字符"),
    ("above {n} characters", "超过 {n} 字符"),
    ("up to {n}%", "不超过 {n}%"),
    ("{low}% to {high}%", "{low}% 至 {high}%"),
    ("above {n}%", "超过 {n}%"),
    ("{low} to {high}", "{low} 至 {high}"),
    ("{n} or more", "{n} 及以上"),
    ("Chinese", "中文"),
    ("other", "其他"),
    ("others", "其余"),
    ("none", "无"),
)
_FIELD = re.compile(r"\\\{(\w+)\\\}")


@cache
def _patterns(table: tuple[tuple[str, str], ...]) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(_FIELD.sub(r"(?P<\1>.+?)", re.escape(english)), re.DOTALL), chinese) for english, chinese in table]


def in_both(sentence: str) -> Phrase:
    """The sentence in both languages, also where it is several of the table joined by semicolons; in English twice where that lacks it."""
    chinese = _chinese(sentence)
    if chinese is None and "; " in sentence:
        parts = [_chinese(part.removesuffix(".")) for part in sentence.split("; ")]
        chinese = "；".join(part for part in parts if part) + "。" if all(parts) else None
    if chinese is None and sentence.endswith("."):
        whole = _chinese(sentence.removesuffix("."))
        chinese = f"{whole}。" if whole else None
    return Phrase(sentence, chinese or sentence)


def _chinese(sentence: str, table: tuple[tuple[str, str], ...] = SENTENCES) -> str | None:
    for pattern, chinese in _patterns(table):
        if found := pattern.fullmatch(sentence):
            return chinese.format(**found.groupdict())
    return None


def label_in_both(label: str) -> Phrase:
    """What a slice is called, in both languages; as it is where it is a value of the user's own."""
    return Phrase(label, _chinese(label, LABELS) or label)
