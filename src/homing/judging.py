"""Let a model judge what an audit listed: tried on known judgments first, its answers kept as they come."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from homing.data import Floats, pair_keys, text_id
from homing.data import digest as digest_texts
from homing.encoders.chat import ANSWER_TOKENS, LONGEST, ChatJudge, Graded
from homing.encoders.client import about_tokens
from homing.encoders.underway import UnderWay
from homing.errors import JudgmentError
from homing.judgments import Judgment, Mark, judgment, slug
from homing.measures.calibration import fit_platt
from homing.measures.formulas import cohen_kappa
from homing.progress import BAR, Say
from homing.settings import Judging
from homing.suspects import Suspects
from homing.training.scorer import Scorer

CERTAIN, UNLIKELY = 0.8, 0.4  # chances of being relevant above which a scorer's word is a positive, and below which a negative
KNOWN_SCORES = 400  # known judgments that a scorer is calibrated on
ANSWERS = "answers"
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Agreement:
    """How a judge does on known judgments. `marks`: what it said of the relevant ones, and of the others, by mark."""

    kappa: float
    pairs: int
    marks: tuple[dict[str, int], dict[str, int]]

    def __str__(self) -> str:
        told = [f"{sum(each.values())} {what} ({', '.join(f'{count} {mark}' for mark, count in each.items() if count)})" for each, what in
                zip(self.marks, ("known to be relevant", "known not to be"), strict=True)]  # fmt: skip
        return f"tried on {self.pairs} known judgments: kappa {self.kappa:.2f}; {', '.join(told)}"


@dataclass(frozen=True)
class Judged:
    """What came of it: judgments in the order of the list, the agreement with known ones, and the tokens that were used, in and out."""

    judgments: list[Judgment]
    agreement: Agreement
    tokens: tuple[int, int] = (0, 0)


def ask_chat(
    suspects: Suspects, judge: ChatJudge, directory: Path, settings: Judging | None = None, *, say: Say = print,
    agree: Callable[[str], bool] = lambda told: True,
) -> Judged:  # fmt: skip
    """Have a chat model grade the suspects by its rubric.

    Before the first text leaves the machine, `agree` hears what is sent where, how many and at what cost, and may say no; a server on
    this machine is told of and not asked about. Known judgments are graded first: where the judge agrees with them too little, nothing
    else is asked. Each answer is appended to `directory`/answers as it comes, under the model, the rubric and the texts: a killed call
    goes on, and a grade is paid for once. What got no grade is unsure, and the next call asks it again.

    Raises JudgmentError where the judge agrees too little or `agree` says no, EndpointError for a server that cannot be asked.
    """
    settings = settings or Judging()
    known, relevant = _known(suspects, settings.known, settings.seed)
    listed = _listed(suspects, settings)
    kept = _Answers(directory / ANSWERS / f"{_key(judge)}.jsonl")
    left = [pair for pair in dict.fromkeys([*known, *listed]) if pair not in kept]
    if left:
        told = announcement(judge, left, len([pair for pair in left if pair in set(known)]), settings, suspects.side)
        say(told)
        if not judge.client.on_this_machine and not agree(told):
            raise JudgmentError("nothing was sent", remedy="Say yes, or give --yes, where these texts may leave this machine.")
    before = kept.tokens
    _ask(judge, known, kept, settings.concurrency, f"{judge.model}: known judgments")
    agreement = _agreement([_mark(kept[pair], settings) for pair in known], [_leans(kept[pair]) for pair in known], relevant)
    say(str(agreement))
    _tell_ungraded([kept[pair] for pair in known], say)
    _demand(agreement, settings, judge.model)
    _ask(judge, listed, kept, settings.concurrency, f"{judge.model}: suspects")
    _tell_ungraded([kept[pair] for pair in listed], say)
    judgments = []
    for number, pair in enumerate(listed):
        answer = kept[pair]
        judgments.append(
            judgment(
                suspects.data, int(suspects.query[number]), int(suspects.negative[number]), _mark(answer, settings), judge=judge.model,
                kind="model", date=kept.date(pair), split=suspects.side, rubric=judge.rubric.name, grade=answer.grade, note=answer.reason,
            )
        )  # fmt: skip
    used = kept.tokens[0] - before[0], kept.tokens[1] - before[1]
    return Judged(judgments, agreement, used)


def ask_scorer(suspects: Suspects, scorer: Scorer, settings: Judging | None = None, *, itself: bool = False, say: Say = print) -> Judged:
    """Have a cross-encoder or an embedding model judge the suspects by its scores.

    Known judgments turn its scores into chances (Platt's sigmoid). Above CERTAIN a document is relevant, below UNLIKELY it is not, between
    them the scorer is unsure. `itself`: it is known to have made the list, under whatever name. The agreement is measured on halves of the
    known judgments that the other half calibrated. Raises JudgmentError where it agrees too little with them.
    """
    settings = settings or Judging()
    if itself or scorer.name in suspects.models:
        say(f"{scorer.name} made this list of what it scores high, and confirms itself: take another model, or mark some of it yourself")
    known, relevant = _known(suspects, max(settings.known, KNOWN_SCORES), settings.seed)
    listed = _listed(suspects, settings)
    scores = np.asarray(scorer.score([*known, *listed]), dtype=np.float64)
    tried, asked = scores[: len(known)], scores[len(known) :]
    chances = np.empty(len(known))
    for half in (0, 1):
        held = np.arange(len(known)) // 2 % 2 == half
        chances[held] = _chances(tried[~held], relevant[~held], tried[held])
    agreement = _agreement([_mark_of(chance) for chance in chances.tolist()], (chances >= 0.5).tolist(), relevant)
    say(str(agreement))
    _demand(agreement, settings, scorer.name)
    found, date = _chances(tried, relevant, asked), _now()
    judgments = [
        judgment(
            suspects.data, int(suspects.query[number]), int(suspects.negative[number]), _mark_of(chance), judge=scorer.name, kind="model",
            date=date, split=suspects.side, rubric="scores-1", note=f"chance of being relevant {chance:.3f}",
        )
        for number, chance in enumerate(found.tolist())
    ]  # fmt: skip
    return Judged(judgments, agreement)


def announcement(judge: ChatJudge, pairs: Sequence[tuple[str, str]], known: int, settings: Judging, side: str) -> str:
    """What is about to be sent where, how many, and at what cost."""
    rubric = about_tokens(judge.rubric.text)
    sent = sum(rubric + about_tokens(query[:LONGEST]) + about_tokens(document[:LONGEST]) for query, document in pairs)
    back = ANSWER_TOKENS * len(pairs)
    cut = sum(max(len(query), len(document)) > LONGEST for query, document in pairs)
    here = judge.client.on_this_machine
    lines = [
        f"{len(pairs):,} questions to {judge.client.url}, model {judge.model}" + (" (on this machine)" if here else ""),
        f"  {known:,} known judgments to try the judge on, {len(pairs) - known:,} of the audit's list",
        f"  each sends the rubric ({judge.rubric.name}), one query and one document of the {side} split, as they stand; no labels, no ids",
    ]
    if cut:
        lines.append(f"  {cut:,} are longer than {LONGEST:,} characters: their beginnings are sent")
    cost = ""
    if settings.prices:
        cost = f", at the price given about {sent * settings.prices[0] + back * settings.prices[1]:.2f}"
    elif not here:
        cost = "; give --price IN,OUT to see what that costs"
    lines.append(f"  about {sent:,} tokens in and {back:,} out, more where the model thinks aloud{cost}")
    return "\n".join(lines)


def _known(suspects: Suspects, pairs: int, seed: int) -> tuple[Pairs, NDArray[np.bool_]]:
    """Texts of known judgments and whether they are relevant, drawn, in turn a relevant one and one that is not.

    Those that are not are judged negatives off the list; where nobody judged any, other queries' positives.
    """
    data, draw = suspects.data, np.random.default_rng(seed)
    qrels = data.qrels
    listed = pair_keys(suspects.query, suspects.negative)
    positive = np.flatnonzero(qrels.relevance > 0)
    negative = np.flatnonzero((qrels.relevance == 0) & ~np.isin(pair_keys(qrels.query, qrels.document), listed))
    count = min(pairs // 2, len(positive))
    chosen = draw.choice(positive, count, replace=False)
    if len(negative) >= count:
        others = draw.choice(negative, count, replace=False)
        query, document = qrels.query[others], qrels.document[others]
    else:
        query, document = qrels.query[chosen], qrels.document[draw.permutation(chosen)]
        apart = np.array([told not in qrels.positives[asked] for asked, told in zip(query.tolist(), document.tolist(), strict=True)])
        query, document = query[apart], document[apart]
    both: list[tuple[int, int, bool]] = []
    for number in range(count):
        both.append((int(qrels.query[chosen[number]]), int(qrels.document[chosen[number]]), True))
        if number < len(query):
            both.append((int(query[number]), int(document[number]), False))
    texts = [(data.queries.texts[asked], data.corpus.texts[told]) for asked, told, _ in both]
    return texts, np.array([label for _, _, label in both], dtype=bool)


def _listed(suspects: Suspects, settings: Judging) -> Pairs:
    if not len(suspects):
        raise JudgmentError("the audit lists nothing to judge", remedy="Audit with a model: homing audit DATASET --model MODEL.")
    data = suspects.data
    both = zip(suspects.query.tolist(), suspects.negative.tolist(), strict=True)
    return [(data.queries.texts[query], data.corpus.texts[document]) for query, document in both][: settings.limit]


def _ask(judge: ChatJudge, pairs: Pairs, kept: _Answers, concurrency: int, progress: str) -> None:
    """Grade the pairs that have no answer yet, the first of them alone, so that a server's ways are known before many ask at a time."""
    left = [pair for pair in dict.fromkeys(pairs) if pair not in kept]
    with tqdm(total=len(set(pairs)), initial=len(set(pairs)) - len(left), desc=progress, unit="pair", **BAR) as bar:
        for pair in left[:1]:
            kept.add(pair, judge.grade(*pair))
            bar.update()
        waiting = list(reversed(left[1:]))
        with UnderWay[tuple[str, str], Graded](judge.client.stop) as asked:
            try:
                while waiting or asked:
                    while waiting and len(asked) < concurrency:
                        pair = waiting.pop()
                        asked.ask(pair, judge.grade, *pair)
                    for pair, answer in asked.answered():
                        kept.add(pair, answer.result())
                        bar.update()
            finally:
                for pair, answer in asked.answered(timeout=0):
                    if answer.exception() is None:
                        kept.add(pair, answer.result())


def _tell_ungraded(answers: Sequence[Graded], say: Say) -> None:
    reasons = [answer.reason for answer in answers if answer.grade is None]
    if reasons:
        say(f"  {len(reasons):,} of these {len(answers):,} got no grade; the next call asks them again. The first: {reasons[0]}")


class _Answers:
    """Answers of one judge by pair, in a file that grows by a line an answer.

    Left out are a line that was cut off by a kill, and answers of earlier calls without a grade: what they failed of may have been mended.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._said: dict[tuple[str, str], dict[str, object]] = {}
        if file.is_file():
            whole, _, cut = file.read_bytes().rpartition(b"\n")
            if cut:
                file.write_bytes(whole + b"\n" if whole else b"")
            for line in whole.split(b"\n"):
                with suppress(ValueError, KeyError, TypeError):  # a line that a full disk left
                    said = json.loads(line)
                    if said["grade"] is not None:
                        self._said[said["query_digest"], said["document_digest"]] = said

    def __contains__(self, pair: tuple[str, str]) -> bool:
        return _digests(pair) in self._said

    def __getitem__(self, pair: tuple[str, str]) -> Graded:
        said = self._said[_digests(pair)]
        grade, used = said["grade"], said["tokens"]
        assert isinstance(used, list)
        return Graded(grade if isinstance(grade, int) else None, str(said["reason"]), (int(used[0]), int(used[1])))

    @property
    def tokens(self) -> tuple[int, int]:
        """Tokens of all of these answers, in and out."""
        used = [said["tokens"] for said in self._said.values()]
        return sum(each[0] for each in used if isinstance(each, list)), sum(each[1] for each in used if isinstance(each, list))

    def date(self, pair: tuple[str, str]) -> str:
        """When the pair was judged."""
        return str(self._said[_digests(pair)]["date"])

    def add(self, pair: tuple[str, str], graded: Graded) -> None:
        """Keep an answer, on disk before anything else happens."""
        query, document = _digests(pair)
        said: dict[str, object] = {
            "query_digest": query, "document_digest": document, "grade": graded.grade, "reason": graded.reason,
            "tokens": list(graded.tokens), "date": _now(),
        }  # fmt: skip
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(said, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._said[query, document] = said


def _digests(pair: tuple[str, str]) -> tuple[str, str]:
    return text_id("q", pair[0]), text_id("d", pair[1])


def _key(judge: ChatJudge) -> str:
    return f"{slug(judge.model)}-{digest_texts([judge.client.url, judge.model, judge.rubric.text])[:12]}"


def _mark(answer: Graded, settings: Judging) -> Mark:
    if answer.grade is None:
        return "unsure"
    return "relevant" if answer.grade >= settings.relevant else "unsure" if answer.grade == 2 else "not"


def _leans(answer: Graded) -> bool:
    """Whether the judge finds it more relevant than not."""
    return answer.grade is not None and answer.grade >= 2


def _mark_of(chance: float) -> Mark:
    return "relevant" if chance >= CERTAIN else "unsure" if chance >= UNLIKELY else "not"


def _chances(scores: Floats, relevant: NDArray[np.bool_], asked: Floats) -> Floats:
    if relevant.all() or not relevant.any():
        return np.full(len(asked), 0.5)
    return fit_platt(scores, relevant).probability(asked)


def _agreement(marks: Sequence[Mark], leans: Sequence[bool], relevant: NDArray[np.bool_]) -> Agreement:
    told: list[dict[str, int]] = []
    for label in (True, False):
        said = [mark for mark, known in zip(marks, relevant.tolist(), strict=True) if known == label]
        told.append({mark: said.count(mark) for mark in ("relevant", "unsure", "not")})
    return Agreement(cohen_kappa(np.array(leans, dtype=bool), relevant), len(relevant), (told[0], told[1]))


def _demand(agreement: Agreement, settings: Judging, name: str) -> None:
    if not all(sum(said.values()) for said in agreement.marks):
        if settings.kappa > -1:
            raise JudgmentError(
                f"{name} cannot be tried: known judgments of both kinds are needed, relevant and not", got=str(agreement),
                remedy="Give data with more judgments, or --least-kappa -1 to go on with a judge that was not tried.",
            )  # fmt: skip
    elif not agreement.kappa >= settings.kappa:
        raise JudgmentError(
            f"{name} agrees too little with known judgments to judge others", got=f"kappa {agreement.kappa:.2f}",
            expected=f"{settings.kappa:g} or more",
            remedy="Take a better judge, or say in --task what counts as relevant; --least-kappa lowers the bar, --known tries more.",
        )  # fmt: skip


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
