"""Judgments made afterwards: whose text they mean, what holds where judges disagree, and that mining and training obey them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from homing.batches import LEFT_OUT, MINED, NEGATIVE, POSITIVE, Groups
from homing.builder import Builder
from homing.data import UNSURE, Dataset, Qrels, Splits
from homing.errors import FormatError
from homing.formats import judgments as files
from homing.formats.mined import CHANGES, read_mined, save_mined
from homing.judgments import Judgment, Mark, judgment, obey
from homing.losses import contrastive
from homing.mining import mine
from homing.settings import Mining

PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(-1, 2)), unique_by=lambda each: each[:2])


def qrels(pairs: list[tuple[int, int, int]]) -> Qrels:
    columns = np.array(pairs, dtype=np.int32).reshape(-1, 3)
    return Qrels(columns[:, 0], columns[:, 1], columns[:, 2])


def by_pair(found: Qrels) -> dict[tuple[int, int], int]:
    return dict(zip(zip(found.query.tolist(), found.document.tolist(), strict=True), found.relevance.tolist(), strict=True))


@given(PAIRS, PAIRS)
def test_changed_judgments_are_those_of_a_dictionary(before: list[tuple[int, int, int]], after: list[tuple[int, int, int]]) -> None:
    changed = qrels(before).changed(qrels(after))
    assert by_pair(changed) == {**by_pair(qrels(before)), **by_pair(qrels(after))}
    assert len(changed) == len(by_pair(changed))
    kept = [pair for pair in by_pair(qrels(before)) if pair in by_pair(changed)]
    assert [pair for pair in by_pair(changed) if pair in kept] == kept  # lists keep their order


def made_splits(by: Literal["group", "query"] = "group") -> Splits:
    """One list a side: a positive and four negatives, all documents of one corpus; train's query is 0."""
    builder = Builder()
    for number, side in enumerate(("train", "dev", "test")):
        query = builder.query(f"which {side} thing", f"Q{number}")
        for place in range(5):
            builder.judge(query, builder.document(f"{side} document {place}", f"D{number}{place}"), int(place == 0), side)  # type: ignore[arg-type]
    train, dev, test = (builder.dataset(side) for side in ("train", "dev", "test"))
    return Splits(train, dev, test, by, np.arange(3, dtype=np.int32))


def says(splits: Splits, document: int, mark: Mark, *, query: int = 0, judge: str = "ann", **more: Any) -> Judgment:
    return judgment(splits.train, query, document, mark, **{"kind": "person", "date": "2026-01-01", "judge": judge, **more})


def relevance(splits: Splits, document: int, query: int = 0) -> int | None:
    return by_pair(splits.train.qrels).get((query, document))


def test_a_confirmed_one_is_a_positive_a_rejected_one_a_judged_negative_and_an_unsure_one_neither() -> None:
    splits = made_splits()
    marks = [says(splits, 1, "relevant"), says(splits, 2, "not"), says(splits, 3, "unsure"), says(splits, 6, "not")]
    obeyed, told = obey(marks, splits)
    assert [relevance(obeyed, document) for document in (0, 1, 2, 3, 4, 6)] == [1, 1, 0, UNSURE, 0, 0]
    assert told.counts == {"read": 4, "relevant": 1, "not": 2, "unsure": 1}
    assert by_pair(splits.dev.qrels) == by_pair(obeyed.dev.qrels)
    assert by_pair(splits.test.qrels) == by_pair(obeyed.test.qrels)
    assert relevance(splits, 1) == 0  # what was handed in stays


def test_judges_who_disagree_leave_it_out_people_outvote_models_and_the_latest_word_of_a_judge_counts() -> None:
    splits = made_splits()
    marks = [
        says(splits, 1, "relevant"), says(splits, 1, "not", judge="bo"),
        says(splits, 2, "relevant", judge="gpt", kind="model"), says(splits, 2, "not"),
        says(splits, 3, "not", date="2026-01-01"), says(splits, 3, "relevant", date="2026-01-02"),
        says(splits, 4, "unsure"), says(splits, 4, "not", judge="bo"),
        says(splits, 5, "relevant", date=""), says(splits, 5, "not", date=""),  # a sheet has no dates: the lower row counts
    ]  # fmt: skip
    obeyed, told = obey(marks, splits)
    assert [relevance(obeyed, document) for document in (1, 2, 3, 4, 5)] == [UNSURE, 0, 1, 0, 0]
    assert told.conflicts == (("Q0", "D01", "ann says relevant, bo says not"),)
    assert "disagree" in str(told)
    assert "ann says relevant, bo says not" in str(told)


def test_texts_are_known_by_their_digests_wherever_their_ids_have_gone() -> None:
    splits = made_splits()
    right = says(splits, 1, "relevant")
    moved = Judgment("elsewhere", "renamed", "relevant", right.query_digest, right.document_digest)
    stale = Judgment("Q0", "D02", "relevant", right.query_digest, "d-0000000000000000")
    unknown = Judgment("Q9", "D02", "relevant", "q-0000000000000000", right.document_digest)
    by_id = Judgment("Q0", "D03", "relevant")
    obeyed, told = obey([moved, stale, replace(stale, document_id="D04"), unknown, by_id], splits)
    assert [relevance(obeyed, document) for document in (1, 2, 3, 4)] == [1, 0, 1, 0]
    assert (told.counts["stale"], told.counts["unknown"]) == (2, 1)


@pytest.mark.parametrize("by", ["group", "query"])
def test_a_confirmed_document_never_ties_train_to_the_exam(by: Literal["group", "query"]) -> None:
    splits = made_splits(by)
    obeyed, told = obey([says(splits, 5, "relevant"), says(splits, 10, "relevant")], splits)  # positives of the dev and the test query
    shared = {splits.dev.qrels.document[0], splits.test.qrels.document[0]} & obeyed.train.qrels.positives[0]
    if by == "group":
        assert not shared
        assert [relevance(obeyed, document) for document in (5, 10)] == [UNSURE, UNSURE]
        assert told.counts["would_leak"] == 2
    else:
        assert len(shared) == 2


def test_the_exam_and_the_datas_own_positives_are_not_touched() -> None:
    splits = made_splits()
    obeyed, told = obey([says(splits, 11, "relevant", query=2), says(splits, 0, "not")], splits)
    assert by_pair(obeyed.train.qrels) == by_pair(splits.train.qrels)
    assert by_pair(obeyed.test.qrels) == by_pair(splits.test.qrels)
    assert told.counts == {"read": 2, "elsewhere": 1, "positives_kept": 1}


def obeyed_train() -> Dataset:
    splits = made_splits()
    marks = [says(splits, 1, "relevant"), says(splits, 2, "not"), says(splits, 3, "unsure"), says(splits, 5, "unsure")]
    return obey(marks, splits)[0].train


def test_mined_rows_obey_and_are_read_back_as_they_were(tmp_path: Path) -> None:
    train = obeyed_train()
    mined = mine(train, Mining(negatives=2, hard=1))
    assert sorted(mined.positive.tolist()) == [0, 1]
    assert mined.pool is not None
    assert set(mined.pool.document.tolist()) == {2, 4}
    assert {2, 4} == set(mined.negative[mined.negative >= 0].tolist())
    save_mined(mined, tmp_path)
    assert (tmp_path / CHANGES).is_file()
    again = read_mined(tmp_path, made_splits().train)
    assert by_pair(again.train.qrels) == by_pair(train.qrels)
    assert again.positive.tolist() == mined.positive.tolist()


def test_a_document_left_out_takes_no_part_in_the_loss_whichever_query_brings_it() -> None:
    train = obeyed_train()
    other = train.with_qrels(train.qrels.changed(qrels([(1, 3, 0), (1, 5, 1), (1, 6, 0)])))  # query 1 brings documents 3 and 5
    groups = Groups(mine(other, Mining(negatives=2, hard=1)))
    batch = groups.batch(np.array([0, 1]), groups.mined.negative)
    told = dict(zip(batch.documents.tolist(), batch.relevance[0].tolist(), strict=True))
    assert told == {0: POSITIVE, 1: POSITIVE, 2: NEGATIVE, 3: LEFT_OUT, 4: NEGATIVE, 5: LEFT_OUT, 6: 0}

    draw = torch.Generator().manual_seed(0)
    queries, documents = torch.randn(2, 8, generator=draw), torch.randn(len(batch.documents), 8, generator=draw)
    relation = torch.from_numpy(batch.relevance)[:1]
    documents.requires_grad_()
    contrastive(queries[:1], documents, relation, 0.05).loss.backward()
    assert documents.grad is not None
    moved = dict(zip(batch.documents.tolist(), documents.grad.abs().sum(dim=1).tolist(), strict=True))
    assert moved[3] == moved[5] == 0
    assert moved[2] > 0
    assert MINED not in told.values()


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from("=+-@'\n\t ,;\"＝"), max_size=30)


@given(TEXT)
def test_a_guarded_cell_is_no_formula_and_reads_back(text: str) -> None:
    cell = files.guarded(text)
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))
    assert files.plain(cell) == text


def test_jsonl_reads_back(tmp_path: Path) -> None:
    splits = made_splits()
    marks = [says(splits, 1, "relevant", grade=3, note="两者相同", rubric="en-1"), says(splits, 2, "unsure", judge="gpt", kind="model")]
    files.write(marks, tmp_path / "marks.jsonl")
    assert files.read(tmp_path / "marks.jsonl") == marks


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_sheet_is_read_as_spreadsheets_save_it(tmp_path: Path, encoding: str, separator: str) -> None:
    splits = made_splits()
    wanted = [says(splits, 1, "relevant"), says(splits, 2, "not"), says(splits, 3, "unsure")]
    head = ["Document_Digest", "备注", "MARK", "query_digest"]
    lines = [
        head,
        *([each.document_digest, '"第一行\n第二行"', mark, each.query_digest] for each, mark in zip(wanted, "1０U", strict=True)),
    ]
    lines.append([wanted[0].document_digest, "没有标注", "", wanted[0].query_digest])
    path = tmp_path / "marked.csv"
    path.write_bytes("\r\n".join(separator.join(line) for line in lines).encode(encoding))
    found = files.read(path)
    assert [(each.mark, each.document_digest, each.judge) for each in found] == [
        (each.mark, each.document_digest, str(tmp_path / "marked")) for each in wanted
    ]


def test_a_sheet_that_names_the_texts_alone_will_do(tmp_path: Path) -> None:
    path = tmp_path / "by-hand.csv"
    path.write_text("mark,query,negative\n相关,which train thing,train document 1\n", encoding="utf-8")
    obeyed, _ = obey(files.read(path), made_splits())
    assert relevance(obeyed, 1) == 1


def test_a_workbook_is_read(tmp_path: Path) -> None:
    from openpyxl import Workbook

    splits = made_splits()
    book = Workbook()
    book.active.append(["notes"])
    sheet = book.create_sheet("marks")
    sheet.append(["query_digest", "mark", "document_digest"])
    for each, mark in zip([says(splits, 1, "relevant"), says(splits, 2, "not"), says(splits, 3, "unsure")], [1, 0.0, "u"], strict=True):
        sheet.append([each.query_digest, mark, each.document_digest])
    sheet.append(["x", None, "y"])
    book.save(tmp_path / "marked.xlsx")
    obeyed, _ = obey(files.read(tmp_path / "marked.xlsx"), splits)
    assert [relevance(obeyed, document) for document in (1, 2, 3)] == [1, 0, UNSURE]


def test_two_people_who_mark_a_sheet_of_one_name_are_two(tmp_path: Path) -> None:
    for name, mark in (("li", "1"), ("wang", "0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "suspects.csv").write_text(f"mark,query,negative\n{mark},which train thing,train document 1\n", encoding="utf-8")
    obeyed, said = obey([each for name in ("li", "wang") for each in files.read(tmp_path / name / "suspects.csv")], made_splits())
    assert relevance(obeyed, 1) == UNSURE
    assert "wang/suspects says not" in said.conflicts[0][2]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("query_id,document_id\nQ0,D01\n", "column 'mark' is missing"),
        ("mark,query_id,document_id\nmaybe,Q0,D01\n", "the mark is none"),
        ("mark,query_id\n1,Q0\n", "names no document"),
        ("mark,query_id,document_id\n,Q0,D01\n", "holds no judgment"),
        ("mark,query_id,document_id,kind\n1,Q0,D01,cat\n", "kind of judge"),
        ("mark,query_id,document_id,grade\n1,Q0,D01,high\n", "grade"),
        ("mark,query_id,document_id,grade\n1,Q0,D01,inf\n", "grade"),
        ('{"mark": 1, "query": "\\ud800", "negative": "d"}', "'query' holds half a character"),
    ],
)
def test_a_faulty_sheet_is_one_clear_error(tmp_path: Path, text: str, what: str) -> None:
    path = tmp_path / "marked.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=what):
        files.read(path)
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(FormatError, match="spreadsheet"):
        files.read(tmp_path / "broken.xlsx")
