"""What a check found: counts, lengths and leaks, as a table for a terminal, and in words what deserves a look before training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from homing.columns import wrapped
from homing.protocols import Kind

MANY_CUT = 0.05  # share of the texts that are longer than the model reads, from which it is worth a warning
WIDE = 0.2  # share of the queries that one document ties together (too large a group for any side but train), or that a split leaves out
MARKED_UP = 0.05  # share of the documents that hold HTML, likewise
SHARED = 5  # queries a relevant document, from which the documents look like a fixed set of answers
FEW = 30  # queries with a positive; a fifth of fewer is less than the six test queries that can show a difference at all
RELEVANT = 0.9  # share of the judgments that are relevant, from which they tell models apart no longer
SCALE = 2  # grades without a 0 among them, from which some may stand for no relevance: stars, or 1 and 2 for yes and no
HIGH = 10  # the highest grade that people give: more are counts of clicks, or per cent
MANY_UNKNOWN = 0.05  # share of the tokens that the vocabulary lacks, likewise

NOTES = {
    "equal_queries": "repetitions of a query (taken once)",
    "equal_documents": "repetitions of a document (taken once)",
    "repeated_judgments": "repeated judgments merged",
    "judged_both_ways": "pairs judged both ways (taken as relevant)",
    "records_without_positive": "records without a positive",
    "records_without_candidates": "records without candidates",
    "empty_documents": "documents without text (left out)",
    "empty_queries": "queries without text (left out)",
    "judgments_of_empty_texts": "judgments of texts without text (left out)",
    "ignored_lists": "lists without candidates in them (left alone)",
    "texts_like_lists": "texts that look like a written list (one text each)",
    "similar_in_a_cell": "similar questions of shared cells (each a query)",
    "similar_below": "similar questions below theirs (taken with it)",
    "negative_grades": "negative grades (taken as 0)",
    "read_as_gb18030": "files that are not UTF-8 (read as GB18030)",
    "pooled_splits": "qrels files pooled",
    "ignored_qrels": "qrels files of other names (left alone)",
    "ignored_sheets": "further sheets of a workbook (left alone)",
    "other_values": "further values of a query's column (the first taken)",
    "dev_as_test": "queries of dev taken as test (there is no other)",
    "dev_from_train": "queries dealt from train to dev",
    "dealt_anew": "queries of dev or test alone (dealt anew)",
    "newer_judgments_of_test": "new judgments of frozen test queries (left out)",
    "foreign_test": "queries of a frozen test of other texts than the data's",
}
_SAID_BETTER = {"records_without_positive", "records_without_candidates"}  # notes that the counts of queries cover


@dataclass(frozen=True)
class Spread:
    """How a count is distributed over the queries that have a judgment."""

    mean: float
    least: int
    median: float
    most: int


@dataclass(frozen=True)
class Part:
    """What one split holds: queries with a judgment, judgments, and how many of these are relevant."""

    queries: int
    judgments: int
    positives: int


@dataclass(frozen=True)
class Lengths:
    """Texts in tokens of the model, its prompt included: `cut` and `unknown` are shares of the texts and of the tokens."""

    texts: int
    median: float
    p95: float
    most: int
    cut: float
    unknown: float


@dataclass(frozen=True)
class Leak:
    """What two splits share.

    `queries` and `near_queries`: those of `second` that are, or nearly are, one of `first`. `positives`: documents relevant in both.
    `contradicted`: documents that are relevant in `second` and judged not relevant to some query of `first`, and relevant to none.
    """

    first: str
    second: str
    queries: int
    near_queries: int
    positives: int
    contradicted: int


@dataclass(frozen=True)
class Check:
    """What `check` found; `str` is a table for the terminal, `to_dict` the same for JSON. `notes` are the readers' own counts.

    `without_candidates` counts the queries of the data that have no judgment at all; `without_positive` and `without_negative` are among
    those that have one. `near_duplicates` counts pairs of queries; `by` is how the splits were made, or will be. `lengths` is empty without
    a tokenizer, `leaks` and `sides` without splits. `columns`: how many different values each column of the queries has. `template`: where
    near-duplicates are too many to be counted, the queries of the largest group of them, and then `near_duplicates` is less than all.
    `answers`: the documents that are relevant to any query; `widest`: the queries that the most relevant of them is relevant to. `itself`:
    the queries that one of their relevant documents repeats. `grades`: how many judgments have each relevance. `marked_up`: the documents
    that hold tags of HTML. `like_labels`: the columns that hold yes and no or grades, where nothing is judged not relevant.
    """

    queries: int
    documents: int
    judgments: int
    positives: Spread
    negatives: Spread
    without_candidates: int
    without_positive: int
    without_negative: int
    near_duplicates: int
    removed: int
    notes: dict[str, int]
    sides: dict[str, Part]
    leaks: tuple[Leak, ...]
    lengths: dict[Kind, Lengths]
    max_length: int | None
    by: str | None
    columns: dict[str, int]
    template: int = 0
    answers: int = 0
    widest: int = 0
    itself: int = 0
    grades: dict[int, int] = field(default_factory=dict)
    marked_up: int = 0
    like_labels: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What deserves a look before training, in words, the gravest first."""
        return [*self._of_the_tokenizer(), *self._of_leaks(), *self._of_judgments(), *self._of_the_files()]

    def to_dict(self) -> dict[str, Any]:
        """The same in dictionaries, lists and numbers, fit for JSON."""
        grades = {str(grade): count for grade, count in self.grades.items()}
        lists = {"leaks": [asdict(leak) for leak in self.leaks], "like_labels": list(self.like_labels), "warnings": self.warnings}
        return asdict(self) | {"grades": grades} | lists

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in self._lines())

    def _lines(self) -> Iterator[str]:
        for name, value in self._counts():
            yield f"{name:<52}{value:>16,}"
        if self.columns:
            said = ", ".join(f"{name} ({values:,})" for name, values in self.columns.items())
            yield wrapped(f"columns of the queries (different values): {said}")
        if max(self.grades, default=0) > 1:
            grades = [f"{grade} ({count:,})" for grade, count in self.grades.items()]
            more = f", {len(grades) - HIGH - 1:,} more" if len(grades) > HIGH + 1 else ""
            yield wrapped(f"grades (judgments), relevant from 1: {', '.join(grades[: HIGH + 1])}{more}")
        yield ""
        yield f"{'a query':<20}{'mean':>12}{'min':>12}{'median':>12}{'max':>12}"
        for name, spread in (("positives", self.positives), ("negatives", self.negatives)):
            yield f"{name:<20}{spread.mean:>12,.2f}{spread.least:>12,}{spread.median:>12,g}{spread.most:>12,}"
        if self.sides:
            yield ""
            yield f"{'split':<20}{'queries':>16}{'judgments':>16}{'positives':>16}"
            for name, side in self.sides.items():
                yield f"{name:<20}{side.queries:>16,}{side.judgments:>16,}{side.positives:>16,}"
        if self.leaks:
            yield ""
            yield f"{'shared by':<20}{'queries':>12}{'near':>12}{'positives':>12}{'contradicted':>14}"
            for leak in self.leaks:
                pair = f"{leak.first}, {leak.second}"
                yield f"{pair:<20}{leak.queries:>12,}{leak.near_queries:>12,}{leak.positives:>12,}{leak.contradicted:>14,}"
        if self.lengths:
            yield ""
            yield f"{'tokens':<20}{'median':>10}{'p95':>10}{'max':>10}{f'over {self.max_length:,}':>14}{'unknown':>12}"
            for kind, of in self.lengths.items():
                yield f"{kind:<20}{of.median:>10,.0f}{of.p95:>10,.0f}{of.most:>10,}{of.cut:>14.1%}{of.unknown:>12.1%}"
        for warning in self.warnings:
            yield ""
            yield wrapped(f"Warning: {warning}")

    def _counts(self) -> Iterator[tuple[str, int]]:
        yield from (("queries", self.queries), ("documents", self.documents), ("judgments", self.judgments))
        suspicious = {
            "queries without a judgment": self.without_candidates,
            "queries without a positive": self.without_positive,
            "queries without a negative": self.without_negative,
            "queries that are relevant to themselves": self.itself,
            "pairs of near-duplicate queries" + (", at the least" if self.template else ""): self.near_duplicates,
            "queries removed by the split": self.removed,
        }
        notes = {NOTES.get(name, name.replace("_", " ")): count for name, count in self.notes.items() if name not in _SAID_BETTER}
        yield from ((name, count) for name, count in (suspicious | notes).items() if count)

    def _of_the_tokenizer(self) -> Iterator[str]:
        for kind, of in self.lengths.items():
            texts = "queries" if kind == "query" else "documents"
            if of.unknown >= MANY_UNKNOWN:
                yield (
                    f"{of.unknown:.0%} of the tokens of the {texts} are UNKNOWN to this model's vocabulary: it cannot read them, "
                    "and results on them say little. Choose a model that knows the language."
                )
            if of.cut >= MANY_CUT:
                yield f"{of.cut:.0%} of the {texts} are longer than {self.max_length:,} tokens; the model does not see what is beyond."

    def _of_leaks(self) -> Iterator[str]:
        for leak in self.leaks:
            shared = (
                (leak.queries, "query", "queries"),
                (leak.near_queries, "near-duplicate query", "near-duplicate queries"),
                (0 if self.by == "query" else leak.positives, "positive document", "positive documents"),
            )
            counts = ", ".join(counted(*each) for each in shared if each[0])
            if counts:
                of = counted(self.sides[leak.second].queries, "query", "queries")
                yield f"{leak.second} ({of}) shares {counts} with {leak.first}: its results may look better than they are."
            if self.by == "given" and leak.first == "train" and leak.contradicted:
                yield (
                    f"{leak.contradicted:,} positive documents of {leak.second} are judged not relevant in train, and relevant to nothing "
                    "there: training pushes them away."
                )

    def _of_judgments(self) -> Iterator[str]:
        learnt = self.removed + sum(side.queries for name, side in self.sides.items() if name != "test")
        if keeps := keeping(self.by, self.removed, learnt):
            yield (
                f"{self.removed:,} of {learnt:,} queries are left out of train and dev, as they share a relevant document or nearly their "
                f"text with another side. {keeps}"
            )
        judged = self.queries - self.without_candidates - self.removed
        if len(self.grades) >= SCALE and min(self.grades) > 0:
            yield (
                f"the grades go from {min(self.grades)} to {max(self.grades)}, and each counts as relevant: only 0 is not. If some stand "
                "for documents that are not relevant (low ones of stars from 1 to 5, the 2 of 1 and 2), write 0 for these."
            )
        elif max(self.grades, default=0) > HIGH:
            yield (
                f"the grades go to {max(self.grades):,}, each from 1 on counts as relevant, and the gains of nDCG are as large as they "
                "are. If they count clicks or are per cent, write 1 from where a document is relevant, and 0 below."
            )
        if judged and self.without_negative == judged:
            yield "there are no judged negatives at all: they are mined from the whole corpus, where nobody judged what is found."
            for name in self.like_labels:
                yield (
                    f"the column {name} holds yes and no, or grades from 0, and every document counts as relevant: if it says whether the "
                    "document is, name it is_relevant, and the document content."
                )
        elif judged and (share := self.positives.mean / (self.positives.mean + self.negatives.mean)) >= RELEVANT:
            yield (
                f"{share:.0%} of the judgments are relevant: AP and F1 are near 1 for any model, so that neither can show a gain, and most "
                "negatives are mined from the whole corpus, where nobody judged what is found. Add what was judged not relevant."
            )
        if self.template:
            yield (
                f"{self.template:,} of {self.queries:,} queries are near-duplicates of one another, as a template's are: they cannot be on "
                "two sides of a split, and teach and test one thing. Give one or a few of each template."
            )
        asked, apart = judged - self.without_positive, self.by in (None, "group")
        if apart and asked >= SHARED * max(10, self.answers):
            yield (
                f"{asked:,} queries have {self.answers:,} relevant documents between them, as a fixed set of answers has: with these "
                "apart, test asks for answers that training never saw as relevant. For new questions to known ones, use --split-by query."
            )
        elif apart and self.widest >= max(10, WIDE * asked):
            yield (
                f"one document is relevant to {self.widest:,} of {asked:,} queries: these stay together and go to train, and test holds "
                "none of them. For a test that asks for it too, use --split-by query."
            )
        if self.itself:
            yield (
                f"{counted(self.itself, 'query is its own relevant document', 'queries are their own relevant documents')}: any model "
                "finds that, and the results look better than they are. Leave these judgments out."
            )
        if self.without_positive:
            yield (
                f"{self.without_positive:,} of {judged:,} judged queries have no positive: they give no training row, and count in "
                "AP and F1 alone, not in the rankings."
            )
        if asked < FEW and not self.sides:
            have = "query has" if asked == 1 else "queries have"
            few = (
                "a run needs three, one for each side"
                if asked < 3
                else f"of fewer than {FEW} too few are left for a test that shows anything"
            )
            yield f"only {asked:,} {have} a relevant document: {few}."
        if both := self.notes.get("judged_both_ways"):
            yield f"{counted(both, 'pair is judged both ways and was', 'pairs are judged both ways and were')} taken as relevant."

    def _of_the_files(self) -> Iterator[str]:
        if self.notes.get("foreign_test"):
            yield (
                "no query and no document of what the frozen test comes from is in the data: it tests another task than training has. "
                "Look whether --test names the run that was meant."
            )
        if empty := self.notes.get("empty_queries"):
            yield (
                f"{counted(empty, 'query has no text and was', 'queries have no text and were')} left out with what is judged for "
                f"{'it' if empty == 1 else 'them'}. In a table where a query stands in the first of its rows alone, write it into each."
            )
        if empty := self.notes.get("empty_documents"):
            yield f"{counted(empty, 'document has no text and was', 'documents have no text and were')} left out."
        if self.notes.get("pooled_splits"):
            yield "the data's own splits were pooled, and will be dealt anew."
        if self.notes.get("dealt_anew"):
            yield (
                "the data has judgments of one split alone, and not of train: they will be dealt to train, dev and test. Results on that "
                "part of them cannot be compared with published ones on all."
            )
        if self.notes.get("dev_as_test"):
            yield "the data has train and dev, and no test: dev is taken as test, and another dev dealt from train."
        if ignored := self.notes.get("ignored_qrels"):
            yield (
                f"{counted(ignored, 'qrels file', 'qrels files')} left alone, named otherwise than train, dev and test: rename what "
                "is to be read."
            )
        if ignored := self.notes.get("ignored_sheets"):
            yield f"{counted(ignored, 'further sheet', 'further sheets')} of the workbook left alone: only the first that has rows is read."
        if self.notes.get("texts_like_lists"):
            yield "some texts look like a written list; in CSV a cell is one text, and more negatives stand in columns of their own."
        if self.marked_up >= max(1, MARKED_UP * self.documents):
            yield (
                f"{self.marked_up / self.documents:.0%} of the documents hold tags of HTML, which the model reads in place of "
                "text. Take them out, unless they are what is asked for."
            )
        if self.notes.get("read_as_gb18030"):
            yield "a CSV file is not UTF-8 and was read as GB18030; where its texts look wrong, save it as UTF-8."


def keeping(by: str | None, removed: int, learnt: int) -> str | None:
    """What keeps the queries that a split leaves out, where these are many of those that were to learn from."""
    many = by == "group" and removed >= max(10, WIDE * learnt)
    return "With --split-by query those that share a document alone stay." if many else None


def counted(count: int, one: str, many: str) -> str:
    """A count before its noun."""
    return f"{count:,} {one if count == 1 else many}"
