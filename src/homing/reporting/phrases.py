"""Every phrase of the report and of the comparison, in both languages side by side. Fields in braces are filled in by the page."""

from __future__ import annotations

from homing.reporting.language import Phrase

# The verdict

OUTCOMES = {
    "gained": Phrase("gained", "有提升"),
    "lost": Phrase("lost", "变差"),
    "mixed": Phrase("mixed", "有得有失"),
    "undecided": Phrase("undecided", "尚无定论"),
}
ACTIONS = {
    "deploy": Phrase("Deploy {chosen}.", "部署 {chosen}。"),
    "keep the base": Phrase("Keep {chosen}.", "保留 {chosen}。"),
    "label more": Phrase("Label more before you decide.", "先补充标注，再作决定。"),
}
USE_UNTRAINED = Phrase("Use {chosen}, which needs no training.", "使用无需训练的 {chosen}。")
ACTION = Phrase("What to do", "建议")
SENTENCES = {
    "gained": Phrase("", "{last} 优于 {first}"),
    "lost": Phrase("", "{last} 不如 {first}"),
    "mixed": Phrase("", "{last} 与 {first} 相比，一项指标更好，另一项更差"),
    "undecided": Phrase("", "这些测试查询不足以说明 {last} 优于 {first}"),
}
"""Openings of the verdict's sentence; the English one is the verdict's own."""
ONE_OF_TWO = Phrase("", "这些测试查询表明 {last} 在 {better} 上优于 {first}，但看不出在 {other} 上也是如此")
MEAN_OF_SEEDS = Phrase("", "{n} 个种子的平均差异 {gains}")
AGAINST_TOO = Phrase("", "与 {other} 相比，nDCG@10 {gain}")
AGAINST_UNTRAINED_TOO = Phrase("", "与无需训练的最佳方案 {other} 相比，nDCG@10 {gain}")
MEASURED = Phrase("", "{measure} 从 {before} 到 {after}（{gain}{interval}{chance}）")
INTERVAL = Phrase(", 95% interval {interval}", "，95% 区间 {interval}")
TEST_QUERIES = Phrase("{n} test queries", "{n} 条测试查询")
AGAINST = Phrase("{last} against {first}, with 95% intervals", "{last} 与 {first} 相比，附 95% 区间")
AGAINST_ALONE = Phrase("{last} against {first}", "{last} 与 {first} 相比")
AGAINST_UNTRAINED = Phrase("{last} against {first}, the best that needs no training", "{last} 与 {first}（无需训练的最佳方案）相比")
REEMBED_TIME = Phrase(
    "A new model means a new index: the {documents} documents must be embedded again, about {time} on the machine of this evaluation.",
    "换模型就要换索引：{documents} 篇文档须重新编码，在本次评测所用机器上约需 {time}。",
)
FUSING = Phrase(
    "{chosen}: search with both, and rank documents by the sum of 1 / ({k} + rank) over the two results (reciprocal rank fusion).",
    "{chosen}：两者各检索一次，按文档在两份结果中的 1 / ({k} + 名次) 之和排序（倒数排名融合）。",
)
FORGOT = Phrase(
    "Outside the domain it is worse than the base (nDCG@10 on {set} {gain} {interval}): other tasks keep the base.",
    "在领域之外它不如基座模型（{set} 的 nDCG@10 {gain} {interval}）：其他任务仍用基座模型。",
)
POWER = Phrase(
    "This test set would show a difference in {measure} of {detectable} four times out of five.",
    "这个测试集有八成把握检出 {measure} 上 {detectable} 的差异。",
)
POWER_MORE = Phrase(
    "This test set would show a difference in {measure} of {detectable} four times out of five; to show one of {worthwhile} (--worthwhile)"
    " as surely, {needed} test queries are needed instead of {queries}.",
    "这个测试集有八成把握检出 {measure} 上 {detectable} 的差异；要以同样的把握检出 {worthwhile}（--worthwhile）的差异，需要 {needed} 条测试查询，现有 {queries} 条。",
)
BEFORE_LABELS = Phrase("Before you label, what costs no labels: {experiment}", "标注之前，先做无需标注的一步：{experiment}")
UNRANKED = Phrase(
    "The models found unjudged documents at different rates (Judged@10 differs by more than 0.05), and nDCG@10 says one thing with them and"
    " another without: it does not rank the models.",
    "各模型检出的未标注文档比例不同（Judged@10 相差超过 0.05），计入与不计这些文档时 nDCG@10 的结论不同，因此不按它排名。",
)
FACTS = {
    "queries": Phrase("test queries", "条测试查询"),
    "documents": Phrase("documents", "篇文档"),
    "pairs": Phrase("judged pairs", "个标注对"),
    "share": Phrase("of them relevant", "相关"),
}
NOTES = Phrase("What these numbers are, and are not", "这些数字说明什么、不说明什么")

# Why nothing was gained

CAUSES = Phrase("Why no gain is shown", "为什么没有显示出提升")
CAUSES_OF_GAINED = Phrase("Why it is not to be deployed yet", "为什么还不宜部署")
CAUSES_LEAD = Phrase(
    "The likely causes, the likeliest first, each with what was measured.",
    "按可能性排列的原因及其实测依据。",
)
NEXT = Phrase("Next experiment", "下一个实验")

# The measures

RANKING = Phrase("Does the right document come first?", "正确的文档排在前面吗？")
RANKING_LEAD = Phrase(
    "On the test split. Small figures are 95% intervals over the queries; the best value of a row is bold, which is not yet a difference"
    " that counts.",
    "测试集上的结果。小字为按查询计算的 95% 区间；每行最佳值加粗，但加粗并不等于差异显著。",
)
RANKING_LEAD_ALONE = Phrase(
    "On the test split. Small figures are 95% intervals over the queries.", "测试集上的结果。小字为按查询计算的 95% 区间。"
)
MEASURE = Phrase("Measure", "指标")
MEASURE_NOTES = {
    "nDCG@10": Phrase("how far up the relevant documents stand; 1 at best", "相关文档在前十篇中排得多靠前，最好为 1"),
    "R@10": Phrase("share of the relevant documents among the first ten", "相关文档进入前十篇的比例"),
    "R@100": Phrase("share of the relevant documents among the first hundred", "相关文档进入前一百篇的比例"),
    "RR@10": Phrase("1 over the rank of the first relevant document", "第一篇相关文档名次的倒数"),
    "Judged@10": Phrase("share of the first ten that anybody judged", "前十篇中有标注的比例"),
    "nDCG(judged_only=True)@10": Phrase("nDCG@10 without the documents that nobody judged", "先去掉未标注的文档，再算 nDCG@10"),
    "AP": Phrase("mean precision at the relevant pairs, by score", "按分数排列，各相关对处精确率的平均"),
    "ROC AUC": Phrase("chance that a relevant pair scores above another", "相关对的分数高于不相关对的概率"),
}
FINDING = Phrase("Finding", "检索")
CLOSED_POOL = Phrase(
    "over the whole corpus, a closed pool: an unjudged document counts as not relevant",
    "在整个语料库（封闭池）中检索：未标注的文档按不相关计",
)
DIFFERENCE = Phrase("Difference", "差异")
DIFFERENCE_NOTE = Phrase("from {first}, paired over the same queries", "与 {first} 之差，按相同查询配对")
DIFFERENCE_ROW = Phrase("{measure}, difference", "{measure} 之差")
P_VALUE = Phrase("{measure}, p-value", "{measure} 的 p 值")
P_NOTE = Phrase("randomisation test by group, Holm-adjusted over the models", "按组随机化检验，按模型数作 Holm 校正")
P_NOTE_PLAIN = Phrase("randomisation test by group", "按组随机化检验")
ORDERING = Phrase("Ordering", "排序")
ORDERING_NOTE = Phrase(
    "the judged pairs alone: AP and ROC AUC over all of them together, the others list by list",
    "只看标注对：AP 与 ROC AUC 在全部标注对上合并计算，其余按列表分别计算",
)
BARE = Phrase("Bare queries", "不带提示词的查询")
BARE_NOTE = Phrase("sent without their prompt, as many clients do", "查询不带提示词直接发送，许多客户端正是如此")
BARE_LOSS = Phrase("{measure}, against its own prompt", "{measure} 与自身提示词相比")
SPEED = Phrase("Encoding", "编码")
SPEED_NOTE = Phrase("on the machine of this evaluation", "在本次评测所用的机器上")
SPEED_ROW = Phrase("documents a second", "每秒文档数")
DIMENSION_ROW = Phrase("numbers an embedding", "向量维数")
SECONDS_ROW = Phrase("seconds in all", "总秒数")
KEPT_EMBEDDINGS = Phrase("embeddings kept from before", "沿用已保存的向量")
COST_ROWS = {
    "requests": Phrase("requests", "请求数"),
    "tokens": Phrase("tokens", "词元数"),
    "prompt_tokens": Phrase("tokens", "词元数"),
    "price": Phrase("price", "费用"),
    "seconds": Phrase("seconds of requests", "请求秒数"),
}
COST = Phrase("Remote", "远程调用")
COST_NOTE = Phrase("what the endpoint counted", "由服务端计数")

# Deciding

DECIDING = Phrase("Is this document relevant?", "这篇文档相关吗？")
DECIDING_LEAD = Phrase(
    "A ranking needs no threshold; a yes or no does. It is chosen on the {dev_pairs} judged pairs of dev and applied to test.",
    "排序不需要阈值，判断“是否相关”才需要。阈值在开发集的 {dev_pairs} 个标注对上选定，再用于测试集。",
)
NO_THRESHOLD = Phrase(
    "There is no F1 against a threshold: the test split holds no judged pair that is not relevant, or none that is.",
    "没有 F1–阈值曲线：测试集里没有被判为不相关的标注对，或没有相关的标注对。",
)
F1_CAPTION = Phrase("F1 against the threshold", "F1 随阈值的变化")
F1_NOTE = Phrase("the dot: the threshold chosen on dev; the ring: test’s own best", "圆点：开发集选定的阈值；圆环：测试集自身最优")
MARK_CHOSEN = Phrase("chosen on dev", "开发集选定")
MARK_BEST = Phrase("test’s own best", "测试集自身最优")
MARK_BORROWED = Phrase("{first}’s threshold on {last}: F1 {f1}", "把 {first} 的阈值用于 {last}：F1 为 {f1}")
PR_CAPTION = Phrase("Precision against recall", "精确率与召回率")
PR_NOTE = Phrase("the dot: the threshold chosen on dev; grey lines: equal F1", "圆点：开发集选定的阈值；灰线：F1 相等处")
SCORES_CAPTION = Phrase("Scores under {model}", "{model} 的分数分布")
SCORES_NOTE = Phrase("each kind as a share of its own pairs", "各类分别占其自身标注对的比例")
RELIABILITY_CAPTION = Phrase("Can the probability be trusted?", "概率可信吗？")
RELIABILITY_NOTE = Phrase(
    "calibrated on dev (Platt), checked on test; on the dotted line, what was promised came",
    "在开发集上校准（Platt），在测试集上检验；落在点线上表示预测与实际一致",
)
RELIABILITY_ERROR = Phrase("expected calibration error {error}", "期望校准误差 {error}")
AT_THRESHOLD = Phrase("Over all judged pairs of test", "测试集全部标注对")
THRESHOLD_ROW = Phrase("threshold chosen on dev", "开发集选定的阈值")
F1_ROW = Phrase("F1 at it", "此阈值下的 F1")
F1_DEV_ROW = Phrase("F1 at it on dev", "此阈值在开发集上的 F1")
F1_BEST_ROW = Phrase("F1 at test’s own best threshold", "测试集自身最优阈值下的 F1")
F1_BEST_NOTE = Phrase("in hindsight; what choosing on dev costs is the difference", "事后才知；与上面之差即在开发集上选阈值的代价")
PRECISION_ROW = Phrase("precision at it", "此阈值下的精确率")
RECALL_ROW = Phrase("recall at it", "此阈值下的召回率")
F1_LIST_ROW = Phrase("F1 averaged over queries", "按查询平均的 F1")
F1_BORROWED_ROW = Phrase("F1 at the threshold of {first}", "沿用 {first} 的阈值时的 F1")
F1_BORROWED_NOTE = Phrase("what a service gets that changes the model and keeps its threshold", "换了模型却沿用旧阈值的服务得到的结果")
F1_OFFSET_ROW = Phrase("F1 with each query’s background taken off", "减去各查询背景分后的 F1")
F1_OFFSET_NOTE = Phrase("background: mean score of a query’s nearest documents", "背景分：该查询最近邻文档的平均分")
OFFSET_HELPS = Phrase("dev says it helps", "开发集表明有帮助")
OFFSET_NOT = Phrase("dev says it does not help", "开发集表明没有帮助")
F1_AT = Phrase("F1 at {threshold}", "阈值 {threshold} 处的 F1")
F1_FLOOR_ROW = Phrase("F1 of calling everything relevant", "全判为相关时的 F1")
SHARE_ROW = Phrase("share of relevant pairs", "相关对所占比例")
BESIDE = Phrase("all called relevant: {floors}", "全判为相关：{floors}")
FLOOR_OF = Phrase("{floor} ({share} are)", "{floor}（{share} 相关）")
RETRIEVED = Phrase("Over the retrieved top {k}", "检索返回的前 {k} 篇")
RETRIEVED_NOTE = Phrase(
    "a threshold of its own: far fewer of these are relevant than of the judged lists",
    "须另设阈值：其中相关的比例远低于标注列表",
)
RETURNED = Phrase("Documents returned a query", "每条查询返回的文档数")
RETURNED_NOTE = Phrase("over the whole corpus, at the threshold", "在整个语料库中，按阈值")
RETURNED_LIST = Phrase("at the threshold for lists", "按列表阈值")
RETURNED_RETRIEVAL = Phrase("at the threshold for retrieval", "按检索阈值")
RETURNED_SPREAD = Phrase(
    "median {median}, nine in ten at most {p90}, {nothing} get none", "中位数 {median}，九成不超过 {p90}，{nothing} 一篇也没有"
)
TRADES = Phrase("At a wanted precision or recall", "按期望的精确率或召回率")
TRADES_NOTE = Phrase("the threshold reaches it on dev; what test then shows", "阈值在开发集上达到该值；测试集上的实际表现")
TRADE_PRECISION = Phrase("precision {level} wanted: recall", "要求精确率 {level}：召回率")
TRADE_RECALL = Phrase("recall {level} wanted: precision", "要求召回率 {level}：精确率")
TRADE_GOT = Phrase("at {threshold}; {what} {got} on test", "阈值 {threshold}；测试集上{what} {got}")
PRECISION = Phrase("precision", "精确率")
RECALL = Phrase("recall", "召回率")

# Slices

SLICES = Phrase("Where it gained, and where it got worse", "哪里变好，哪里变差")
SLICES_LEAD = Phrase(
    "{measure} of {last} against {first} on parts of the test queries, with 95% intervals. Green is what rose, marked as worse what"
    " fell, with p < 0.05 after adjustment for the number of parts looked at.",
    "{last} 与 {first} 在各部分测试查询上的 {measure}，附 95% 区间。按所看切片数校正后 p < 0.05 的，上升标绿，下降标为变差。",
)
TEST_QUERIES_OF_PART = Phrase("{n} queries", "{n} 条查询")
WORSE = Phrase("worse", "变差")
WORSE_QUERIES = Phrase("The {n} queries of this part that lost most", "此切片中下降最多的 {n} 条查询")
SLICE_NAMES = {
    "query length": Phrase("query length", "查询长度"),
    "document length": Phrase("document length", "文档长度"),
    "language": Phrase("language", "语言"),
    "relevant documents": Phrase("relevant documents", "相关文档数"),
    "words in common": Phrase("words in common with the relevant document", "与相关文档共有的词"),
}
HIDDEN_VALUE = Phrase("value {n}", "取值 {n}")
HIDDEN_COLUMN = Phrase("column {n}", "列 {n}")

# Queries

QUERIES = Phrase("The queries that changed", "发生变化的查询")
QUERIES_LEAD = Phrase(
    "From {first} to {last}: {gained} gained nDCG@10, {lost} lost, {same} stayed as they were. Scores are {first} → {last}.",
    "从 {first} 到 {last}：nDCG@10 上升 {gained} 条，下降 {lost} 条，不变 {same} 条。分数为 {first} → {last}。",
)
QUERIES_HIDDEN = Phrase(
    "The texts are left out. A name like {name} is a line of that file in the run’s dataset.",
    "文本已略去。形如 {name} 的名称指运行目录中数据集相应文件的行号。",
)
SEARCH = Phrase("Search queries and documents", "搜索查询与文档")
FOUND = Phrase("shown: {shown} of {total}", "显示 {shown} / {total}")
ON_PAPER = Phrase("The first {n} are on paper, all in the file.", "纸上只印前 {n} 条，文件里有全部。")
GAINED_MOST = Phrase("Gained most", "上升最多")
LOST_MOST = Phrase("Lost most", "下降最多")
NONE_GAINED = Phrase("No query gained.", "没有查询上升。")
NONE_LOST = Phrase("No query lost.", "没有查询下降。")
LISTED_OF = Phrase("{listed} of {total}", "{total} 条中的 {listed} 条")
RELEVANT = Phrase("Relevant", "相关")
RIVAL = Phrase("Best-scored of those judged not relevant", "被判不相关者中得分最高的")
NO_RIVAL = Phrase("No candidate of this query is judged not relevant.", "该查询没有被判为不相关的候选。")
NOT_RELEVANT = Phrase("Judged not relevant", "判为不相关")
FOUND_FIRST = Phrase("{model} ranks first", "{model} 排在第一的")
RANK_OF = Phrase("first relevant at rank {rank}", "第一篇相关文档排在第 {rank} 位")
RANK_NONE = Phrase("no relevant document among the first {k}", "前 {k} 篇中没有相关文档")
IS_RELEVANT = Phrase("judged relevant", "已标注：相关")
IS_NOT = Phrase("judged not relevant", "已标注：不相关")
IS_UNJUDGED = Phrase("not judged", "未标注")
SCORE = Phrase("score", "分数")
MORE = Phrase("and {n} more", "另有 {n} 篇")
ALL_CHARACTERS = Phrase("all {n} characters", "全文 {n} 字符")
EMPTY = Phrase("(empty)", "（空）")

# Suspects

SUSPECTS = Phrase("Negatives that may be relevant", "可能相关的负例")
SUSPECTS_LEAD = Phrase(
    "Of {lists} test queries with documents judged not relevant, {n} have one that {last} scores above every relevant document. Some are the model’s"
    " mistakes, some the judgments’: read them, and judge again those that answer the query.",
    "在 {lists} 条带有“不相关”标注的测试查询中，有 {n} 条的某个负例被 {last} 打出高于全部相关文档的分数。有的是模型的错，有的是标注的错：请读一读，确能回答查询的应重新标注。",
)
SUSPECT = Phrase("Judged not relevant, scored {score}", "判为不相关，得分 {score}")
BEST_POSITIVE = Phrase("Best relevant, scored {score}", "得分最高的相关文档，{score}")
AUDITED = Phrase("What the audit of {side} listed", "{side}的审查结果")
AUDITED_LEAD = Phrase(
    "{total} of {of} negatives, the likeliest first; scores are the last model’s. Mark them: homing audit writes a page and a sheet for that.",
    "{of} 个负例中的 {total} 个，最可疑的在前；分数来自最后一个模型。请逐条标注：homing audit 会为此生成网页和表格。",
)
AUDIT_AGREED = Phrase("above the positive for every model", "所有模型都判它高于正例")
ALSO_FIRST = Phrase("{first} agrees", "{first} 也这样认为")

# Training

TRAINING = Phrase("The training", "训练过程")
TRAINING_LOSS = Phrase("Training loss", "训练损失")
DEV_LOSS = Phrase("Loss on dev", "开发集损失")
ON_DEV = Phrase("{measure} on dev", "开发集 {measure}")
MEAN_SCORES = Phrase("Mean scores", "平均分数")
LEARNING_RATE = Phrase("Learning rate", "学习率")
GRADIENT_NORM = Phrase("Gradient norm", "梯度范数")
SHARE_KEPT = Phrase("nDCG@10 by the share kept (mark: chosen)", "nDCG@10 随保留比例的变化（圆点：选定）")

# Data

DATA = Phrase("The data", "数据")
SPLIT = Phrase("split", "划分")
SIDES = {"train": Phrase("train", "训练集"), "dev": Phrase("dev", "开发集"), "test": Phrase("test", "测试集")}
COLUMNS = {
    "queries": Phrase("queries", "查询"),
    "judgments": Phrase("judged pairs", "标注对"),
    "positives": Phrase("relevant", "相关"),
    "share": Phrase("share relevant", "相关比例"),
}
LEAKS = Phrase("Leaks between the splits", "划分之间的泄漏")
NO_LEAKS = Phrase(
    "None: no query, near-duplicate query or relevant document is on two sides.",
    "没有：没有任何查询、近似重复的查询或相关文档同时出现在两侧。",
)
LEAK = Phrase(
    "{first} and {second} share {queries} queries, {near} near-duplicate queries and {positives} relevant documents.",
    "{first}与{second}共有 {queries} 条查询、{near} 条近似重复查询和 {positives} 篇相关文档。",
)
SPLIT_BY = {
    "group": Phrase(
        "split by group: test shares no query, near-duplicate query or relevant document with training",
        "按组划分：测试集与训练集不共享查询、近似重复查询或相关文档",
    ),
    "query": Phrase("split by query: relevant documents may be shared, as was asked for", "按查询划分：按要求允许共享相关文档"),
    "given": Phrase("the data came split", "数据自带划分"),
}
REMOVED = Phrase("queries removed by the split: they would have leaked", "划分时移除的查询（否则会造成泄漏）")
COUNTS = {
    "near_duplicates": Phrase("pairs of near-duplicate queries", "近似重复的查询对"),
    "without_positive": Phrase("queries without a relevant document", "没有相关文档的查询"),
    "without_negative": Phrase("queries without a document judged not relevant", "没有“不相关”标注的查询"),
    "equal_queries": Phrase("repetitions of a query (taken once)", "重复出现的查询（只计一次）"),
    "equal_documents": Phrase("repetitions of a document (taken once)", "重复出现的文档（只计一次）"),
    "repeated_judgments": Phrase("repeated judgments merged", "合并的重复标注"),
    "judged_both_ways": Phrase("pairs judged both ways (taken as relevant)", "两种标注都有的对（按相关计）"),
    "empty_documents": Phrase("documents without text (left out)", "没有文本的文档（已略去）"),
    "empty_queries": Phrase("queries without text (left out)", "没有文本的查询（已略去）"),
    "foreign_test": Phrase("queries of a frozen test of other texts than the data's", "冻结测试集的查询（其文本与数据毫无交集）"),
}
UNKNOWN = Phrase(
    "{kind}: tokens that the model’s vocabulary lacks; it cannot read them, and results on them say little",
    "{kind}：模型词表里没有的词元；模型读不懂，相应结果说明不了什么",
)
CUT = Phrase("{kind}: longer than the {length} tokens that the model reads", "{kind}：超过模型可读的 {length} 个词元")
KINDS = {"query": Phrase("queries", "查询"), "document": Phrase("documents", "文档")}

# What people misread

READING = Phrase("How to read this page", "怎样读这份报告")
MISREAD = (
    (
        Phrase("Lower scores are not worse scores", "分数变低不等于变差"),
        Phrase(
            "A tuned model may score every pair lower and still set relevant apart from not relevant more clearly. What counts is how far"
            " the two lie apart, not where they lie.",
            "调优后的模型可能给所有文本对更低的分数，却把相关与不相关分得更开。要看的是两者之间的距离，而不是所在的位置。",
        ),
    ),
    (
        Phrase("A threshold belongs to its model", "阈值属于它自己的模型"),
        Phrase(
            "After fine-tuning the old threshold is wrong. F1 at one fixed threshold compares the scales of two models, not the models.",
            "微调之后，旧阈值就不再适用。用同一个固定阈值比较 F1，比的是两个模型的分数尺度，而不是模型本身。",
        ),
    ),
    (
        Phrase("F1 depends on how many pairs are relevant", "F1 取决于相关对的比例"),
        Phrase(
            "On lists that are half relevant, calling everything relevant already has an F1 of 0.67. Compare F1 only on the same pairs, and"
            " with that floor beside it.",
            "若列表里一半相关，全判为相关的 F1 就有 0.67。F1 只能在同一批标注对上比较，并且要与这个底线对照。",
        ),
    ),
    (
        Phrase("A bold figure is not yet a difference", "加粗不等于有差异"),
        Phrase(
            "A difference counts where the 95% interval of the paired difference leaves out zero and, where there is a p-value, that is below"
            " 0.05. Two overlapping intervals of single models"
            " say little: the difference is measured query by query.",
            "只有配对差异的 95% 区间不含零，且有 p 值时 p 值低于 0.05，差异才算数。两个模型各自的区间有重叠并不说明问题：差异是逐条查询比较得出的。",
        ),
    ),
    (
        Phrase("The interval does not hold everything", "区间并不包含一切"),
        Phrase(
            "It tells what other queries of the same kind would change. Another training seed would change something too, and so would other data.",
            "它反映的是换一批同类查询会有多大变化。换一个训练随机种子、换一批数据，结果还会再变。",
        ),
    ),
    (
        Phrase("These are figures of your task", "这是你的任务上的数字"),
        Phrase(
            "Retrieval searches the documents of your data and no others, and a document that nobody judged counts as not relevant. The figures"
            " compare models here; they are not those of a public benchmark.",
            "检索只在你的数据的文档中进行，没人标注过的文档按不相关计。这些数字用于在此任务上比较模型，不能与公开榜单相比。",
        ),
    ),
)

# How it was made

MADE = Phrase("How it was made", "复现信息")
PROMPTS = Phrase("The prompts", "提示词")
PROMPTS_LEAD = Phrase(
    "What stood before each text, in quotation marks; {newline} is a line break.",
    "每段文本前所加的内容，引号内即原文；{newline} 表示换行。",
)
NO_PROMPT = Phrase("no prompt, neither for queries nor for documents", "查询和文档都不加提示词")
PROMPT_KINDS = {"query": Phrase("query", "查询"), "document": Phrase("document", "文档")}
STAGES = Phrase("The stages", "各阶段")
STAGE = Phrase("stage", "阶段")
STAGE_NAMES = {
    "check": Phrase("check", "检查"),
    "split": Phrase("split", "划分"),
    "mine": Phrase("mine", "挖掘负例"),
    "train": Phrase("train", "训练"),
    "merge": Phrase("merge", "合并"),
    "evaluate": Phrase("evaluate", "评测"),
    "report": Phrase("report", "报告"),
}
TIME = Phrase("time", "用时")
MEMORY = Phrase("peak memory", "内存峰值")
RECIPE = Phrase("The recipe", "配方")
VERSIONS = Phrase("Versions", "版本")
DIGESTS = Phrase("Digests", "摘要")

# The page

CONTENTS = Phrase("Contents", "目录")
TITLE = Phrase("Homing: {outcome} – {models}", "Homing：{outcome} – {models}")
NAVIGATION = {
    "ranking": Phrase("Ranking", "排序"),
    "deciding": Phrase("Deciding", "判断"),
    "causes": Phrase("Causes", "原因"),
    "slices": Phrase("Slices", "切片"),
    "queries": Phrase("Queries", "查询"),
    "suspects": Phrase("Suspects", "可疑负例"),
    "training": Phrase("Training", "训练"),
    "data": Phrase("Data", "数据"),
    "reading": Phrase("Reading", "解读"),
    "made": Phrase("Made", "复现"),
    "beside": Phrase("Beside the test", "测试之外"),
    "runs": Phrase("Runs", "运行"),
    "settings": Phrase("Settings", "设置"),
    "curves": Phrase("Curves", "曲线"),
}

# Words inside charts: what is drawn in English, and its Chinese

DRAWN = {
    "threshold": "阈值",
    "F1 on test": "测试集 F1",
    "all called relevant": "全判为相关",
    "relevant": "相关",
    "not relevant": "不相关",
    "score": "分数",
    "recall": "召回率",
    "precision": "精确率",
    "probability promised": "预测概率",
    "share relevant": "实际相关比例",
    "step": "步数",
    "share kept": "保留比例",
    "% of the judgments": "标注的百分比",
    "dev": "开发集",
    "general": "通用集",
    "positives": "正例",
    "negatives": "负例",
    "on dev": "开发集",
    "learning rate": "学习率",
}

# Beside the test

BESIDE_TEST = Phrase("Beside the test set", "测试集之外")
FORGETTING = Phrase("What was forgotten outside the domain", "领域之外忘掉了什么")
FORGETTING_LEAD = Phrase(
    "nDCG@10 on sets that are not of this task. A loss here is the price of a gain there.",
    "与本任务无关的数据上的 nDCG@10。这里的损失是换取提升的代价。",
)
SET = Phrase("set", "数据")
MORE_JUDGMENTS = Phrase("What more judgments would bring", "更多标注能带来什么")
MORE_JUDGMENTS_LEAD = Phrase(
    "The same training on parts of the judgments, each part within the next.", "用部分标注作同样的训练，小份包含于大份之中。"
)
JUDGMENTS_SHARE = Phrase("share of the judgments", "标注比例")
TRAINING_QUERIES = Phrase("training queries seen", "学过的训练查询")
FORECAST = Phrase(
    "{factor} times the judgments would bring {gain} in {measure} {interval}, by the fitted curve.",
    "按拟合曲线，标注增至 {factor} 倍，{measure} 变化约 {gain} {interval}。",
)
FORECAST_OPEN = Phrase(
    "What {factor} times the judgments would bring in {measure} cannot be told from these points: {gain} {interval}.",
    "从这些点还看不出标注增至 {factor} 倍时 {measure} 会怎样：{gain} {interval}。",
)
FORECAST_NONE = Phrase(
    "The trainings had time for about as many queries each: that tells nothing of more. Train for longer.",
    "各次训练在给定时间里学到的查询数相近，看不出更多标注能带来什么。请延长训练。",
)
FORECAST_FALLS = Phrase(
    "{measure} fell as the judgments grew, so that nothing is forecast of more of them: first try a lower learning rate, and read some of the"
    " judgments again.",
    "标注增多，{measure} 反而下降，因此不对更多标注作预测：请先降低学习率，并抽查一些标注。",
)
LEARNING_CURVE = Phrase("nDCG@10 on test by the share of the judgments", "测试集 nDCG@10 随标注比例的变化")
SEEDS = Phrase("Other seeds", "其他随机种子")
SEEDS_LEAD = Phrase(
    "The same training under other seeds. The interval of the mean difference holds seeds and queries both; the first seed’s model is the"
    " one handed over.",
    "换随机种子作同样的训练。平均差异的区间同时包含种子与查询的变化；交付的是第一个种子的模型。",
)
SEED = Phrase("seed {n}", "种子 {n}")
SHORTENED = Phrase("Shorter embeddings", "更短的向量")
SHORTENED_LEAD = Phrase(
    "nDCG@10 of the first numbers of each embedding alone. The index takes less room, and what it finds differs by so much.",
    "只取每个向量的前若干维时的 nDCG@10：索引占用更少，检索效果相差如下。",
)
CUT_DIFFERENCE = Phrase("{last}, difference to its whole embeddings", "{last}，与完整向量之差")
ANEW = Phrase("Going on, or beginning anew", "接着训练，还是从头训练")
ANEW_LEAD = Phrase(
    "This model went on from an adapter. Beside it stands the same training, begun with the base.",
    "这个模型从已有的适配器接着训练；旁边是同样的训练、但从基座模型开始的结果。",
)
GONE_ON = Phrase("gone on", "接着训练")
BEGUN_ANEW = Phrase("begun with the base", "从基座开始")
ANEW_BETTER = {
    "going on": Phrase("Going on from the adapter is better here.", "这里接着训练更好。"),
    "beginning anew": Phrase("Beginning anew is better here: leave --from out.", "这里从头训练更好：请不要用 --from。"),
    "neither": Phrase(
        "These queries show no difference; beginning anew is the one that a recipe repeats.",
        "这些查询看不出差异；从头训练则可由一份配方重现。",
    ),
}
DEVIATION = Phrase("standard deviation", "标准差")
MEAN_DIFFERENCE = Phrase("mean difference from the base", "与基座的平均差异")
INSTRUCTIONS = Phrase("Prompts tried on the base", "在基座模型上试过的提示词")
INSTRUCTIONS_LEAD = Phrase(
    "nDCG@10 of the untrained base on {queries} dev queries over {documents} documents; the best is bold, and the tuned model is compared"
    " with the base under it.",
    "未训练的基座模型在开发集 {queries} 条查询、{documents} 篇文档上的 nDCG@10；最佳者加粗，调优模型即与用它的基座模型比较。",
)
PROMPT = Phrase("prompt", "提示词")
BARE_PROMPT = Phrase("none", "无")
RUN_OWN = Phrase("the run’s own", "本次运行所用")
LOOKS = Phrase(
    "Tuned models that this test set has measured so far, this one included: {n}.", "这个测试集至今评测过的调优模型数（含本次）：{n}。"
)
AGAINST_DEPLOYED = Phrase("{last} against {first}, the model in use now", "{last} 与现在使用的 {first} 相比")

# Several runs

COMPARED_TITLE = Phrase("Homing: {names}", "Homing：{names}")
COMPARED = Phrase("{n} runs", "{n} 次运行")
COMPARED_BEST = Phrase(
    "{best} finds the right document best: nDCG@10 {gain} over {second}{interval}.",
    "{best} 的检索效果最好：nDCG@10 比 {second} 高 {gain}{interval}。",
)
COMPARED_OPEN = Phrase(
    "No run is shown to be the best: {best} leads {second} by {gain} in nDCG@10{interval}{chance}.",
    "还看不出哪次运行最好：{best} 的 nDCG@10 比 {second} 高 {gain}{interval}{chance}。",
)
COMPARED_LEVEL = Phrase(
    "No run is shown to be the best: {best} and {second} are level in nDCG@10{interval}{chance}.",
    "还看不出哪次运行最好：{best} 与 {second} 的 nDCG@10 持平{interval}{chance}。",
)
COMPARED_UNRANKED = Phrase(
    "No run is shown to be the best: {best} leads {second} by {gain} in nDCG@10{interval}, but what the two find is judged to"
    " different shares, and without the unjudged documents nDCG@10 does not say the same.",
    "还看不出哪次运行最好：{best} 的 nDCG@10 比 {second} 高 {gain}{interval}，但两者检出的文档已标注的比例不同，不计未标注文档时 nDCG@10 的结论不同。",
)
COMPARED_APART = Phrase(
    "The {n} runs were measured on different test sets: compare what each gained over its own base, not their figures.",
    "这 {n} 次运行的测试集各不相同：应比较各自相对其基座的提升，而不是数值本身。",
)
RUNS_LEAD = Phrase(
    "Ranked by nDCG@10 on test. The differences are of nDCG@10, with 95% intervals.",
    "按测试集 nDCG@10 排名。差异指 nDCG@10 之差，附 95% 区间。",
)
RUNS_LEAD_APART = Phrase(
    "Each on its own test set, in the order given. The differences are of nDCG@10, with 95% intervals.",
    "各在自己的测试集上，按给定顺序排列。差异指 nDCG@10 之差，附 95% 区间。",
)
RUN = Phrase("run", "运行")
FROM_BASE = Phrase("from its own base", "与自身基座之差")
FROM_FIRST = Phrase("from {first}", "与 {first} 之差")
FROM_FIRST_RUN = Phrase("from the first run", "与第一次运行之差")
RUN_TIME = Phrase("time", "用时")
CURVES = Phrase("The curves", "曲线")
SETTINGS = Phrase("What was set differently", "设置上的不同")
SETTING = Phrase("setting", "设置")
SAME_SETTINGS = Phrase("Nothing: all settings that are known are the same.", "没有不同：已知的设置全部相同。")
FIRST_AND_BEST = Phrase("Queries: {first} and {other}", "逐条查询：{first} 与 {other}")

# In a terminal

VERDICT = Phrase("VERDICT ({outcome}): ", "结论（{outcome}）：")
ACTION_OF = Phrase("ACTION: ", "建议：")
THRESHOLD = Phrase("threshold", "阈值")
TEST_BEST = Phrase("test's best F1", "测试集最优 F1")
FLOOR = Phrase(
    "{share} of the test pairs are relevant; calling all of them relevant has F1 {f1}.",
    "测试集标注对中有 {share} 相关；全判为相关时 F1 为 {f1}。",
)
PAIRED = Phrase("{last} against {first}, paired, 95%", "{last} 与 {first} 相比，配对，95%")
OWN_PARTS = Phrase("By the data's own columns", "按数据自带的列")
WORSE_PARTS = Phrase("It got worse on", "变差的部分")
PROMPTS_OF = Phrase("prompts of {model}", "{model} 的提示词")
BARE_OF = Phrase(
    "queries of {model} sent without their prompt, as many clients send them", "{model} 的查询不带提示词发送（许多客户端如此）"
)
