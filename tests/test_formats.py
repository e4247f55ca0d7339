"""The formats: what is read, what is refused and in which words, and that what is written is read back."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from openpyxl import Workbook

from homing import formats
from homing.builder import Builder
from homing.checking import check
from homing.data import Dataset
from homing.errors import FormatError, HomingError, JudgmentError
from homing.formats import beir, candidates, headers, rows
from homing.loading import load, load_splits
from homing.verdicts.slices import columns_of

Judgments = list[tuple[str, str, int]]
CANDIDATES: dict[str, Any] = {"query": "q", "documents": [{"content": "d", "label": 1}, {"content": "e", "label": 0}]}


def judgments(data: Dataset) -> Judgments:
    """The judgments in words, in their order."""
    columns = zip(data.qrels.query.tolist(), data.qrels.document.tolist(), data.qrels.relevance.tolist(), strict=True)
    return [(data.queries.texts[query], data.corpus.texts[document], grade) for query, document, grade in columns]


def put(path: Path, content: str | bytes | Any) -> Path:
    """Write bytes or text as they are, anything else as JSON."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


def beir_folder(path: Path, corpus: str | bytes = "", queries: str | bytes = "", **qrels: str | bytes) -> Path:
    """A small valid BEIR folder, with the given files in place of its own."""
    (path / "qrels").mkdir(parents=True)
    put(path / "corpus.jsonl", corpus or '{"_id": "d1", "title": "a", "text": "b"}\n{"_id": "d2", "title": "", "text": "c"}\n')
    put(path / "queries.jsonl", queries or '{"_id": "q1", "text": "one"}\n{"_id": "q2", "text": "two"}\n')
    for side, content in (qrels or {"train": "query-id\tcorpus-id\tscore\nq1\td2\t0\nq1\td1\t1\nq2\td2\t2\n"}).items():
        put(path / "qrels" / f"{side}.tsv", content)
    return path


# What is read


@pytest.mark.parametrize("content", [json.dumps([CANDIDATES]), json.dumps(CANDIDATES), "query,positive\nq,d\n"])
def test_what_gzip_packed_reads_like_the_file_in_it(tmp_path: Path, content: str) -> None:
    plain, packed = put(tmp_path / "plain", content), put(tmp_path / "data.gz", gzip.compress(content.encode()))
    assert judgments(load(packed)) == judgments(load(plain))
    with pytest.raises(FormatError, match="cannot be read"):
        load(put(tmp_path / "cut.gz", packed.read_bytes()[:-9]))


def test_a_beir_folder_may_be_packed_and_its_other_qrels_are_counted(tmp_path: Path) -> None:
    plain, packed = beir_folder(tmp_path / "plain"), beir_folder(tmp_path / "packed")
    for name in ("corpus.jsonl", "queries.jsonl"):
        put(packed / f"{name}.gz", gzip.compress((packed / name).read_bytes()))
        (packed / name).unlink()
    assert judgments(load(packed)) == judgments(load(plain))
    put(packed / "qrels" / "old.tsv", "q1\td1\t1\n")
    found = load(packed)
    assert found.notes["ignored_qrels"] == 1
    assert "1 qrels file left alone, named otherwise" in str(check(found)).replace("\n  ", " ")


def test_validation_is_dev_where_there_is_no_dev(tmp_path: Path) -> None:
    named, otherwise = beir_folder(tmp_path / "named"), beir_folder(tmp_path / "otherwise")
    for folder, name in ((named, "dev"), (otherwise, "validation")):
        put(folder / "qrels" / f"{name}.tsv", "query-id\tcorpus-id\tscore\nq2\td2\t1\n")
    assert judgments(load(otherwise)) == judgments(load(named))
    assert load(otherwise).notes == load(named).notes
    put(otherwise / "qrels" / "dev.tsv", "query-id\tcorpus-id\tscore\n")
    assert load(otherwise).notes["ignored_qrels"] == 1


FOREIGN = {
    "xls": b"\xd0\xcf\x11\xe0", "UTF-16": b"\xff\xfe", "UTF-16 text": b"\xfe\xff", "a PDF": b"%PDF-1.7",
    "an Arrow table": b"ARROW1\0\0", "UTF-16 text, unmarked": '[{"query"'.encode("utf-16-le"), "by bzip2": bz2.compress(b"x"),
    "by xz": lzma.compress(b"x"), "a pickle": pickle.dumps([{"query": "q"}], protocol=4),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_cannot_be_read_is_called_by_its_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(FormatError, match=kind.partition(",")[0]) as error:
        load(put(tmp_path / "data", FOREIGN[kind] + b"\x00" * 600))
    assert error.value.remedy.startswith(("Save", "Unpack"))


def test_a_zip_is_a_workbook_or_told_to_be_unpacked_whatever_its_name(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "data.xlsx", "w") as archive:
        archive.writestr("data.json", GOOD)
    with pytest.raises(FormatError, match="cannot be read") as error:
        load(tmp_path / "data.xlsx")
    assert "unpack it" in error.value.remedy
    book = Workbook()
    for row in (("query", "positive"), ("q", "d")):
        book.active.append(row)
    book.save(tmp_path / "book.xlsx")
    assert judgments(load((tmp_path / "book.xlsx").rename(tmp_path / "book.zip"))) == [("q", "d", 1)]


def test_names_of_columns_are_read_in_any_case_in_every_kind_of_table(tmp_path: Path) -> None:
    named, rows = (" Query", "CONTENT", "Label", "Topic"), [["q", "d", "1", "x"], ["q", "f", "0", "x"]]
    pq.write_table(
        pa.table({name: list(column) for name, column in zip(named, zip(*rows, strict=True), strict=True)}), tmp_path / "a.parquet"
    )
    book = Workbook()
    for row in (named, *rows):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    table = put(tmp_path / "a.csv", "\n".join(",".join(row) for row in (named, *rows)))
    for path in (tmp_path / "a.parquet", tmp_path / "a.xlsx", table):
        data = load(path)
        assert judgments(data) == [("q", "d", 1), ("q", "f", 0)]
        assert data.queries.columns == {"topic": ("x",)}
        assert columns_of(data.queries, "Topic") == data.queries.columns
    both = {"query": ["q"], "content": ["d"], "label": [1], "Note": ["a"], "note": ["b"]}
    pq.write_table(pa.table(both), tmp_path / "b.parquet")
    assert load(tmp_path / "b.parquet").queries.columns == {"Note": ("a",), "note": ("b",)}


def test_chinese_names_of_columns_are_read_in_every_kind_of_table(tmp_path: Path) -> None:
    pair = (("问题", "文档", "是否相关", "标签"), ["q", "d", "是", "x"], ["q", "f", "否", "x"])
    triplet = (("查询", "标准答案", "负样本1", "负样本2", "标签"), ["q", "d", "f", "", "x"])
    for place, (named, *values) in enumerate((pair, triplet)):
        columns = zip(named, zip(*values, strict=True), strict=True)
        pq.write_table(pa.table({name: list(column) for name, column in columns}), tmp_path / f"{place}.parquet")
        book = Workbook()
        for row in (named, *values):
            book.active.append(row)
        book.save(tmp_path / f"{place}.xlsx")
        plain = "\n".join(",".join(row) for row in (named, *values))
        (tmp_path / f"{place}.csv").write_text(plain, encoding="gb18030")
        for kind in ("parquet", "xlsx", "csv"):
            data = load(tmp_path / f"{place}.{kind}")
            assert judgments(data) == [("q", "d", 1), ("q", "f", 0)]
            assert data.queries.columns == {"标签": ("x",)}  # a column of the user's own, where another holds the label


def test_numbered_positives_are_as_good_as_numbered_negatives(tmp_path: Path) -> None:
    for names in (
        "query,positive_1,positive_2,neg1",
        "查询,正例1,正例2,负例1",
        "问题,相关文档,相关文档2,不相关文档",
        "anchor,pos,pos2,neg",
    ):
        data = load(put(tmp_path / "a.csv", f"{names},position\nq,d,e,f,3\np,g,,,4\n"))
        assert judgments(data) == [("q", "d", 1), ("q", "e", 1), ("q", "f", 0), ("p", "g", 1)]
        assert data.queries.columns == {"position": ("3", "4")}
    answered = load(put(tmp_path / "a.json", [{"问题": "q", "参考答案": "x", "正例1": "d", "正例2": ["e", "g"]}]))
    assert judgments(answered) == [("q", "d", 1), ("q", "e", 1), ("q", "g", 1)]
    assert answered.queries.columns == {"参考答案": ("x",)}


FAQ = [
    ("标准问题", "相似问题", "答案", "分类"),
    ["怎么退保", "如何退保\n退保流程？\n", "打电话", "保全"],
    ["何时理赔", "", "三天", "理赔"],
    ["", "几天能赔", "", ""],  # under its question
    ["怎么投保", "咋买", "", ""],  # nobody answered
]
ASKED = [
    ("怎么退保", "打电话", 1),
    ("如何退保", "打电话", 1),
    ("退保流程？", "打电话", 1),
    ("何时理赔", "三天", 1),
    ("几天能赔", "三天", 1),
]


def test_similar_questions_ask_for_the_answer_of_their_standard_question(tmp_path: Path) -> None:
    book = Workbook()
    for row in FAQ:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    pq.write_table(pa.table(dict(zip(FAQ[0], map(list, zip(*FAQ[1:], strict=True)), strict=True))), tmp_path / "a.parquet")
    records = [dict(zip(FAQ[0], row, strict=True)) for row in FAQ[1:]]
    table = put(tmp_path / "a.csv", "\n".join(",".join(f'"{cell}"' for cell in row) for row in FAQ))
    for path in (tmp_path / "a.xlsx", tmp_path / "a.parquet", table, put(tmp_path / "a.json", records)):
        data = load(path)
        assert formats.detect(path) == "faq"
        assert judgments(data) == ASKED
        assert data.notes == {"similar_in_a_cell": 2, "similar_below": 1, "records_without_positive": 1}
        assert data.queries.columns["分类"][:4] == ("保全", "保全", "保全", "理赔")
    without_answer = [(row[0], row[1].replace("退保流程？", "退保流程？\n怎么退保"), row[3]) for row in FAQ[:2]]  # itself among them
    path = put(tmp_path / "b.csv", "\n".join(",".join(f'"{cell}"' for cell in row) for row in without_answer))
    assert judgments(load(path)) == [("如何退保", "怎么退保", 1), ("退保流程？", "怎么退保", 1)]


def test_similar_questions_are_found_however_a_table_writes_them(tmp_path: Path) -> None:
    for header, row in (
        ("标准问,扩展问,答案", "怎么退保,如何退保|退保流程？,打电话"),
        ("*標準問題,相似問題1,相似問題2,*答案", "怎么退保,如何退保,退保流程？,打电话"),
        ("问题(必填),问题相似问法(选填-多个用##分隔),机器人回答", "怎么退保,如何退保##退保流程？,打电话"),
        ("Question,Similar questions,Similar questions,Answer", "怎么退保,如何退保,退保流程？,打电话"),
        ("标准问题,相似问题,答案", """怎么退保,"['如何退保', '退保流程？']",打电话"""),
        ("标准问题,相似问题,答案,标签", "怎么退保,如何退保|退保流程？,打电话,保全"),
        ("question,similar_question,answer,score", "怎么退保,如何退保|退保流程？,打电话,35"),
        ("相似问题,标准问题,答案", "如何退保；退保流程？,怎么退保,打电话"),
    ):
        assert judgments(load(put(tmp_path / "a.csv", f"{header}\n{row}\n"))) == ASKED[:3]
    listed = {"query": "怎么退保", "similar_questions": ["如何退保", "退保流程？"], "answer": ["打电话"]}
    assert judgments(load(put(tmp_path / "a.json", [listed]))) == ASKED[:3]
    none = put(tmp_path / "a.csv", "标准问题,相似问题,相似问题2,答案\n怎么退保,如何退保,退保流程？,打电话\n何时理赔,无,/,三天\n")
    assert judgments(load(none)) == [*ASKED[:3], ("何时理赔", "三天", 1)]
    asked = "用户问题,标准问题,答案\n如何退保,怎么退保,打电话\n退保流程？,怎么退保,打电话\n"
    assert sorted(judgments(load(put(tmp_path / "a.csv", asked)))) == sorted(ASKED[:3])
    with pytest.raises(FormatError, match="nothing that similar questions are like"):
        load(put(tmp_path / "a.csv", "相似问题,分类\n如何退保,x\n"))


def test_questions_that_are_alike_or_not_are_judged_pairs(tmp_path: Path) -> None:
    for header in ("问题1,问题2,标签", "句子1,句子2,是否相似", "用户问题,标准问题,是否匹配", "问题,相似问题,标签"):
        assert judgments(load(put(tmp_path / "a.csv", f"{header}\nq,d,1\nq,e,0\n"))) == [("q", "d", 1), ("q", "e", 0)]


def test_keys_of_json_are_read_in_any_case_and_in_chinese(tmp_path: Path) -> None:
    judged = [("q", "d", 1), ("q", "e", 0)]
    for record in (
        {"Query": "q", "Content_Public": [{"Content": "d", "Is_Relevant": True}, {"CONTENT": "e", "IS_RELEVANT": False}], "Topic": "x"},
        {"查询": "q", "公开": [{"内容": "d", "是否相关": "是"}, {"内容": "e", "是否相关": "否"}], "Topic": "x", "标签": "y"},
        {"Anchor": "q", "Positive": "d", "Negative_1": "e", "Topic": "x"},
        {"问题": "q", "答案": "d", "负例": ["e"], "Topic": "x"},
        {"Query": "q", "Positive_Passages": [{"text": "d"}], "Negative_Passages": [{"text": "e"}], "Topic": "x"},
    ):
        for name, text in (("a.json", json.dumps([record])), ("a.jsonl", json.dumps(record))):
            data = load(put(tmp_path / name, text))
            assert judgments(data) == judged
            assert data.queries.columns == {"Topic": ("x",)} | ({"标签": ("y",)} if "标签" in record else {})  # the user's own stay
    pair = [{"Query": "q", "Content": "d", "Label": 1, "label ": "x"}, {"Query": "q", "Content": "e", "Label": 0}]
    with pytest.raises(FormatError, match="no known format"):  # two that would be one stay as they are
        load(put(tmp_path / "a.json", pair))
    del pair[0]["label "]
    assert judgments(load(put(tmp_path / "a.json", pair))) == judged


def test_of_keys_that_are_known_in_part_the_others_are_asked_for(tmp_path: Path) -> None:
    for header, remedy in (
        ("问法,条款,是否相关,备注", "'是否相关' is the label: name the key of the query 'query' and that of the document 'content'."),
        ("id,query,title,relevance", "'query' is the query, 'relevance' is the label: name the key of the document 'content'."),
        ("question1,question2,id", "name the key of the label 'is_relevant'; where every document is relevant, name theirs 'positive'"),
        ("Query,Title,id", "'query' is the query: name the key of relevant documents 'positive' (a text or a list of texts), or"),
        ("id,text,x", "Rename the keys to these"),
    ):
        with pytest.raises(FormatError) as error:
            load(put(tmp_path / "a.csv", f"{header}\n{header}\n"))
        assert remedy in str(error.value)
    dureader = {"question_id": "1", "question": "q", "answer_paragraphs": [{"paragraph_id": "2", "paragraph_text": "d"}]}
    studio = {"id": 1, "annotations": [{"result": []}], "data": {"query": "q", "content": "d"}}
    cmrc = {"id": "1", "title": "t", "paragraphs": [{"context": "d", "qas": [{"question": "q"}]}]}
    for record, remedy in (
        (dureader, "name the key of relevant documents 'positive' (a text or a list of texts)"),
        ({"question": "q", "positive": dureader["answer_paragraphs"]}, "'positive' holds objects: write their texts in place of them."),
        (studio, "Export from Label Studio as JSON-MIN or CSV"),
        (cmrc, "under 'paragraphs' hold is not looked at"),
    ):
        with pytest.raises(FormatError) as error:
            load(put(tmp_path / "a.json", [record]))
        assert remedy in str(error.value)
    renamed = put(tmp_path / "a.csv", "id,query,content,relevance\n1,q,d,1\n1,q,e,0\n")  # what the remedy says works
    assert judgments(load(renamed)) == [("q", "d", 1), ("q", "e", 0)]


def test_english_names_stand_before_chinese_ones() -> None:
    assert headers.columns(["Query", "问题", "内容", "文本", "标签"]) == ["query", "问题", "content", "文本", "is_relevant"]
    assert headers.columns(["question", "document", "内容", "相关"]) == ["question", "document", "内容", "is_relevant"]
    assert headers.columns(["query", "答案", "答案"]) == ["query", "positive", "positive"]
    assert headers.columns(["query", "问题类型", "负例数"]) == ["query", "问题类型", "负例数"]
    assert headers.columns(["問題", "文檔", "是否相關", "類別"]) == ["query", "content", "is_relevant", "類別"]
    assert headers.columns(["提問", "正確答案", "負樣本1", "問題類型"]) == ["query", "positive", "negative_1", "問題類型"]


def test_null_is_an_empty_text_as_an_empty_cell_is(tmp_path: Path) -> None:
    pairs = {"query": ["q", "q", None, "q"], "content": ["d", None, "e", "f"], "label": [1, 0, 1, 0]}
    pq.write_table(pa.table(pairs), tmp_path / "a.parquet")
    rows = [",".join("" if value is None else str(value) for value in row) for row in zip(*pairs.values(), strict=True)]
    table = put(tmp_path / "a.csv", "\n".join((",".join(pairs), *rows)))
    assert judgments(load(tmp_path / "a.parquet")) == judgments(load(table)) == [("q", "d", 1), ("q", "f", 0)]
    assert load(tmp_path / "a.parquet").notes == load(table).notes
    records = [CANDIDATES, {"query": "q", "documents": [{"content": None, "label": 1}]}, {"query": None, "documents": []}]
    notes = load(put(tmp_path / "a.json", records)).notes
    assert (notes["empty_documents"], notes["empty_queries"]) == (1, 1)


def test_the_names_that_other_tools_give_to_columns(tmp_path: Path) -> None:
    for header in ("anchor,positive,negative", "question,answer,neg", "query,pos,negative_1", "query,answer,negative"):
        assert judgments(load(put(tmp_path / "a.csv", f"{header}\nq,d,e\n"))) == [("q", "d", 1), ("q", "e", 0)]
    for listed in ({"negatives": ["e"]}, {"hard_negatives": ["e"], "ids": ["1"], "scores": [0.5]}, {"Hard_Neg_1": "e"}):
        data = load(put(tmp_path / "a.json", [{"anchor": "q", "positives": ["d"], **listed}]))
        assert judgments(data) == [("q", "d", 1), ("q", "e", 0)]
        assert data.notes == ({"ignored_lists": 1} if "ids" in listed else {})  # never left out in silence
    for candidate in ({"text": "d", "relevant": True}, {"passage": "d", "score": 1}, {"document": "d", "label": "yes", "score": 0.4}):
        assert judgments(load(put(tmp_path / "a.json", [{"query": "q", "documents": [candidate]}]))) == [("q", "d", 1)]
    for header in (
        "sentence1,sentence2,score",
        "query,passage,label",
        "query,content,is_relevant",
        "question,answer,label",
        "question1,question2,is_duplicate",
    ):
        assert judgments(load(put(tmp_path / "a.csv", f"{header}\nq,d,1\nq,e,0\n"))) == [("q", "d", 1), ("q", "e", 0)]
    assert judgments(load(put(tmp_path / "a.json", [{"question": "q", "answer": "d", "neg": ["e"]}]))) == [("q", "d", 1), ("q", "e", 0)]
    natural = [{"query": "q", "answer": "d", "tags": []}, {"query": "q", "answer": "e", "tags": ["t"]}]
    assert judgments(load(put(tmp_path / "natural.jsonl", natural[::-1]))) == [("q", "e", 1), ("q", "d", 1)]
    unfound = {"query": "q", "answer": "y", "content_private": []}
    assert judgments(load(put(tmp_path / "unfound.jsonl", [unfound, {**CANDIDATES, "answer": "y"}]))) == judgments(
        load(put(tmp_path / "found.jsonl", [CANDIDATES]))
    )
    answered = {**CANDIDATES, "question": "x", "answer": "y"}  # candidates stay candidates
    assert judgments(load(put(tmp_path / "a.json", [answered]))) == [("q", "d", 1), ("q", "e", 0)]


def test_a_table_may_be_parted_by_bars(tmp_path: Path) -> None:
    assert judgments(load(put(tmp_path / "a.txt", "query|positive\nq|d, or e\n"))) == [("q", "d, or e", 1)]


def test_a_cell_may_hold_a_whole_document(tmp_path: Path) -> None:
    long = "长" * 300_000
    assert judgments(load(put(tmp_path / "a.csv", f"query,positive\nq,{long}\n"))) == [("q", long, 1)]


def test_empty_cells_beyond_the_header_are_none(tmp_path: Path) -> None:
    assert judgments(load(put(tmp_path / "a.csv", "query,positive\nq,d,\nr,e, ,\n"))) == [("q", "d", 1), ("r", "e", 1)]
    with pytest.raises(FormatError, match="fit the header"):
        load(put(tmp_path / "a.csv", "query,positive\nq,d,x\n"))


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ""])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_found_by_content_whatever_the_name(tmp_path: Path, suffix: str, bom: bytes) -> None:
    contents = {
        "candidates": [json.dumps([CANDIDATES]).encode(), json.dumps(CANDIDATES).encode()],
        "rows": [
            b'\n [{"query": "q", "positive": "d"}]',
            b'{"anchor": "q", "positive": "d"}',
            b"query,pos,neg\nq,d,e\n",
            b"\r\nanchor;positive\r\nq;d",
        ],
    }
    for name, variants in contents.items():
        for number, content in enumerate(variants):
            path = put(tmp_path / f"{name}{number}{suffix}", bom + content)
            assert formats.detect(path) == name
            assert ("q", "d", 1) in judgments(load(path))
    assert formats.detect(beir_folder(tmp_path / f"folder{suffix}")) == "beir"


def test_candidates_of_all_lists_are_the_querys(tmp_path: Path) -> None:
    record = {
        "id": 7,
        "query": " q ",
        "content_private": [{"content": "d", "is_relevant": True}, {"content": "e", "is_relevant": False, "source": "x"}],
        "content_public": [{"content": "f", "is_relevant": False}],
        "tags": ["law"],
    }
    data = load(put(tmp_path / "a.json", [record]))
    assert judgments(data) == [("q", "d", 1), ("q", "e", 0), ("q", "f", 0)]
    assert data.notes == {"ignored_lists": 1}


@pytest.mark.parametrize(
    ("label", "grade"),
    [
        (True, 1),
        (False, 0),
        (0, 0),
        (1, 1),
        (3, 3),
        (2.0, 2),
        ("true", 1),
        ("False", 0),
        ("1", 1),
        (" 2 ", 2),
        ("0.0", 0),
        (-2, 0),
        ("-1", 0),
        ("Yes", 1),
        ("no", 0),
        ("irrelevant", 0),
        ("是", 1),
        ("否", 0),
        ("相关", 1),
        ("不相关", 0),
        ("不相關", 0),
        ("對", 1),
        ("√", 1),
        ("×", 0),
        ("错", 0),
        ("正確", 1),
        ("Negative", 0),
        ("不匹配", 0),
        ("１", 1),
    ],
)
def test_labels(tmp_path: Path, label: object, grade: int) -> None:
    record = {"query": "q", "documents": [{"content": "d", "label": label}, {"content": "e", "is_relevant": 1}]}
    data = load(put(tmp_path / "a.json", [record]))
    assert judgments(data) == [("q", "d", grade), ("q", "e", 1)]
    assert data.notes.get("negative_grades", 0) == (str(label).startswith("-"))


@pytest.mark.parametrize("names", [("query", "positive", "negative"), ("query", "pos", "neg"), ("anchor", "positive", "negative")])
def test_rows_under_all_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    values = [("q", "d", ["e", "f"]), ("q", ["g", "h"], "e"), ("r", ["d"], None), ("s", "d", [])]
    path = put(tmp_path / "a.jsonl", "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in values))
    expected = {("q", "d", 1), ("q", "g", 1), ("q", "h", 1), ("q", "e", 0), ("q", "f", 0), ("r", "d", 1), ("s", "d", 1)}
    assert set(judgments(load(path))) == expected


def test_rows_without_and_with_numbered_negatives(tmp_path: Path) -> None:
    assert judgments(load(put(tmp_path / "a.json", [{"query": "q", "positive": "d"}]))) == [("q", "d", 1)]
    numbered = {"anchor": "q", "positive": "d", "negative_1": "e", "negative_2": "f", "negative10": "g", "negative_note": "not a text"}
    assert judgments(load(put(tmp_path / "b.json", [numbered]))) == [("q", "d", 1), ("q", "e", 0), ("q", "f", 0), ("q", "g", 0)]


@pytest.mark.parametrize("key", ["title", "标题"])
def test_the_title_of_a_judged_document_stands_before_its_text(tmp_path: Path, key: str) -> None:
    pair = {"query": "q", key: "Hail", "text": "is covered", "label": 1}
    one, other = (
        load(put(tmp_path / "pairs.jsonl", [pair, {**pair, key: None, "text": "d"}])),
        {key: "Hail", "text": "is covered", "label": 1},
    )
    assert judgments(one) == [("q", "Hail is covered", 1), ("q", "d", 1)]
    assert not one.queries.columns
    assert judgments(load(put(tmp_path / "lists.jsonl", [{"query": "q", "found": [other]}]))) == [("q", "Hail is covered", 1)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"query": {"0": "q"}, "text": {"0": "d"}, "label": {"0": 1}}, "orient='records'"),
        ({"columns": ["query", "text", "label"], "index": [0], "data": [["q", "d", 1]]}, "orient='records'"),
        ({"a": {"query": "q", "positive": "d"}, "b": {"query": "r", "positive": "e"}}, "the records as a list, without keys"),
    ],
)
def test_what_a_table_or_a_dictionary_wrote_is_told_how_to_be_written(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        load(put(tmp_path / "a.json", json.dumps(content)))


def test_an_address_is_no_path() -> None:
    with pytest.raises(FormatError, match="Fetch what is at this address first"):
        load("https://example.org/data.json")


def test_an_object_where_a_text_belongs_is_told_as_one(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="'positive' holds objects: write their texts in place of them"):
        load(put(tmp_path / "a.jsonl", [{"id": 1, "query": "q", "positive": {"id": 7, "text": "d"}}]))


def test_lists_of_another_kind_than_candidates_are_told_what_to_become(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"Call a list of texts 'positive' .* \('clicked', 'skipped'\)"):
        load(put(tmp_path / "clicks.jsonl", [{"query": "q", "clicked": ["d"], "skipped": ["e"]}]))
    columns = {"is_selected": [1, 0], "passage_text": ["d", "e"]}
    with pytest.raises(FormatError, match="Write 'passages' as a list with an object a candidate"):
        load(put(tmp_path / "columns.jsonl", [{"query": "q", "answers": ["a"], "passages": columns}]))


def test_triples_without_a_header_are_told_so_whatever_commas_they_hold(tmp_path: Path) -> None:
    (file := tmp_path / "triples.tsv").write_text("is hail, or storm, covered\tyes, both, always\tno, never\n" * 2)
    with pytest.raises(FormatError, match="the first row names them") as refused:
        load(file)
    assert "'is hail, or storm, covered', 'yes, both, always'" in str(refused.value)


RAW = ['"best" phone', '5" screen or "6', '"unclosed', '"quoted"', "plain"]


@pytest.mark.parametrize("texts", [RAW, RAW[2:], [*RAW, 'closed" here']])
def test_quotes_in_a_tsv_file_that_quotes_nothing_are_texts(tmp_path: Path, texts: list[str]) -> None:
    lines = [f"{text}\td{number}\t1\n" for number, text in enumerate(texts)]
    (file := tmp_path / "a.tsv").write_text("query\tdocument\tlabel\n" + "".join(lines))
    assert judgments(load(file)) == [(text, f"d{number}", 1) for number, text in enumerate(texts)]


def test_a_tsv_file_that_a_library_quoted_is_read_as_that_library_reads_it(tmp_path: Path) -> None:
    rows = [["query", "document", "label"], *([text, "over\ntwo lines\tand a tab", "1"] for text in RAW)]
    with (file := tmp_path / "a.tsv").open("w", newline="") as opened:
        csv.writer(opened, delimiter="\t").writerows(rows)
    assert judgments(load(file)) == [(query, document, 1) for query, document, _ in rows[1:]]


def test_a_tsv_file_with_broken_quotes_and_uneven_lines_is_refused(tmp_path: Path) -> None:
    (file := tmp_path / "a.tsv").write_text('query\tdocument\n"best" phone\td\nq\td\te\n')
    with pytest.raises(FormatError, match="the CSV is broken"):
        load(file)


@pytest.mark.parametrize(("encoding", "read_as"), [("utf-8", {}), ("utf-8-sig", {}), ("gb18030", {"read_as_gb18030": 1})])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_as_excel_writes_it(tmp_path: Path, encoding: str, read_as: dict[str, int], delimiter: str) -> None:
    text = io.StringIO()
    table = csv.writer(text, delimiter=delimiter)
    table.writerows(
        [
            ["Query", "Positive", "Negative", "Negative"],
            ["问，题", '"答,案"\r\n第二行', "错;误", ""],
            ["", "", "", ""],
            ["q", "d", "e", "f"],
        ]
    )
    data = load(put(tmp_path / "a.csv", text.getvalue().encode(encoding)))
    assert judgments(data) == [("问，题", '"答,案"\r\n第二行', 1), ("问，题", "错;误", 0), ("q", "d", 1), ("q", "e", 0), ("q", "f", 0)]
    assert data.notes == read_as


def test_beir_joins_title_and_text_keeps_ids_and_ignores_other_qrels(tmp_path: Path) -> None:
    path = beir_folder(tmp_path / "b")
    put(path / "qrels" / "all.tsv", "nothing that could be read")
    data = load(path)
    assert data.corpus.ids == ("d1", "d2")
    assert data.corpus.texts == ("a b", "c")
    assert judgments(data) == [("one", "c", 0), ("one", "a b", 1), ("two", "c", 2)]


def test_beir_ids_of_equal_texts_are_one_document(tmp_path: Path) -> None:
    corpus = '{"_id": "d1", "text": "x"}\n{"_id": "d2", "text": " x "}\n{"_id": 3, "text": "y", "title": null}\n'
    data = load(beir_folder(tmp_path / "b", corpus, train="q1\td2\t1\nq1\t3\t0\r\n\n"))
    assert data.corpus.ids == ("d1", "3")
    assert judgments(data) == [("one", "x", 1), ("one", "y", 0)]
    assert data.notes == {"equal_documents": 1}


def test_suspicious_is_counted_and_not_fatal(tmp_path: Path) -> None:
    records = [
        CANDIDATES,
        {"query": "no candidate", "documents": []},
        {"query": "no positive", "documents": [{"content": "d", "label": 0}, {"content": " ", "label": 1}]},
        {"query": "", "documents": [{"content": "d", "label": 1}]},
    ]
    data = load(put(tmp_path / "a.json", records))
    assert data.queries.texts == ("q", "no candidate", "no positive")
    assert data.notes == {
        "records_without_candidates": 1, "records_without_positive": 2, "empty_documents": 1, "empty_queries": 1, "equal_documents": 1
    }  # fmt: skip


def test_rows_suspicious(tmp_path: Path) -> None:
    path = put(tmp_path / "a.csv", 'query,positive,negative\nq,d,"[""e"", ""f""]"\nr,,e\n,d,e\n')
    data = load(path)
    assert judgments(data) == [("q", "d", 1), ("q", '["e", "f"]', 0), ("r", "e", 0)]
    assert data.notes == {"texts_like_lists": 1, "records_without_positive": 1, "empty_queries": 1}


def test_beir_texts_without_content_go_with_their_judgments(tmp_path: Path) -> None:
    corpus = '{"_id": "d1", "text": "x"}\n{"_id": "d2", "title": "", "text": " "}\n'
    data = load(beir_folder(tmp_path / "b", corpus, train="q1\td1\t1\nq1\td2\t1\n"))
    assert judgments(data) == [("one", "x", 1)]
    assert data.notes == {"empty_documents": 1, "judgments_of_empty_texts": 1}


# What is refused: content, the error's class, and what its words hold


def one(candidate: str) -> str:
    """A file with one query, and one candidate that is written like this."""
    return '[{"query": "q", "documents": [{' + candidate + "}]}]"


GOOD = json.dumps(CANDIDATES)
ROW = '{"query": "q", "positive": "d"}'
REFUSED: dict[str, tuple[str | bytes, type[HomingError], list[str]]] = {
    "empty": (b"", FormatError, ["the file is empty"]),
    "white space": (b" \n\t\n", FormatError, ["the file is empty"]),
    "byte order mark alone": (b"\xef\xbb\xbf", FormatError, ["the file is empty"]),
    "empty list": ("[]", FormatError, ["holds no record"]),
    "header alone": ("query,positive\n", FormatError, ["holds no record"]),
    "cut off": (f"[{GOOD},\n{GOOD[:-9]}", FormatError, ["record 2 (line 2)", "broken JSON at line 2, column"]),
    "missing comma": (f"[{GOOD}\n{GOOD}]", FormatError, ["record 1 (line 1)", "line 2, column 1", "Expecting ','"]),
    "trailing comma": (f"[\n{GOOD},\n]", FormatError, ["broken JSON at line 3, column 1", "Comma before the end"]),
    "trailing comma in a record": (f"[\n{GOOD},\n{GOOD[:-1]},}}]", FormatError, ["record 2 (line 3)", "broken JSON at line 3"]),
    "text after the list": (f"[{GOOD}]\nx", FormatError, ["line 2, column 1", "after the end", "'x'"]),
    "list that ends early": (f"[{GOOD}", FormatError, ["got the end"]),
    "broken line": (f"{GOOD}\n\n{GOOD[:-1]}\n", FormatError, ["line 3: broken JSON at line 3, column"]),
    "two records in a line": (f"{GOOD}\n{GOOD}{GOOD}\n", FormatError, ["line 2", "after the end of the record"]),
    "objects without a list": (json.dumps(CANDIDATES, indent=1) * 2, FormatError, ["one after the other", "jq -c"]),
    "object at the top": (json.dumps({"data": [CANDIDATES]}, indent=1), FormatError, ["single JSON object", "'data'", "a list of records"]),
    "object at the top in a line": (json.dumps({"data": [CANDIDATES]}), FormatError, ["line 1", "'data'", "Write the list", "alone"]),
    "nested too deeply": ("[" * 100_000, FormatError, ["record 1 (line 1)", "nested too deeply"]),
    "number too long": ('[{"query": ' + "1" * 5000 + "}]", FormatError, ["record 1 (line 1)"]),
    "key twice": ('[{"query": "q", "query": "r"}]', FormatError, ["record 1", "'query' occurs twice"]),
    "no object": ('["q"]', FormatError, ["record 1 (line 1)", "got 'q'", "an object"]),
    "no object in a line": (f"{GOOD}\n5\n", FormatError, ["line 2", "got 5"]),
    "not UTF-8": (b'[\n{"query": "caf\xe9"}]', FormatError, ["line 2", "byte 0xe9 at offset 16", "UTF-8"]),
    "line not UTF-8": (f"{GOOD}\n".encode() + b'{"query": "caf\xe9"}', FormatError, ["line 2", f"offset {len(GOOD) + 1 + 14}"]),
    "UTF-16": (GOOD.encode("utf-16"), FormatError, ["UTF-16"]),
    "CSV in UTF-16": ("query,positive\nq,d\n".encode("utf-16"), FormatError, ["UTF-16", "UTF-8"]),
    "CSV, UTF-8 with a broken byte": (
        "query,positive\n劳动者可以解除合同吗,d\nr,".encode() + b"\xb5\xb5\n", FormatError, ["line 3", "byte 0xb5", "not UTF-8"]
    ),
    "half a character": (one(r'"content": "a\ud800", "label": 1'), FormatError, ["surrogate \\ud800", "character 2"]),
    "unknown keys": ('[{"asked": "q", "answer": "a"}]', FormatError, ["record 1", "'asked', 'answer'", "'query'"]),
    "unknown columns": ("asked,answer\nq,a\n", FormatError, ["line 2", "'asked', 'answer'"]),
    "query missing": (f'[{GOOD}, {{"documents": []}}]', FormatError, ["record 2", "'query' is missing", "'documents'"]),
    "query null": ('[{"query": null, "documents": [{"content": "d", "label": 1}]}]', JudgmentError, ["there is no query"]),
    "no list": (f'[{GOOD}, {{"query": "q", "documents": null}}]', FormatError, ["record 2", "no list of candidates"]),
    "list of strings alone": (f'[{GOOD}, {{"query": "q", "documents": ["d"]}}]', FormatError, ["record 2", "no list of candidates"]),
    "candidate no object": ('[{"query": "q", "documents": [{"content": "d", "label": 1}, "e"]}]', FormatError, ["documents[2]", "'e'"]),
    "content missing": (one('"body": "d", "label": 1'), FormatError, ["documents[1]", "'content' is missing", "'body'"]),
    "content a number": (one('"content": 7, "label": 1'), FormatError, ["documents[1]", "'content'", "got 7", "a string"]),
    "content NaN": (one('"content": NaN, "label": 1'), FormatError, ["documents[1]", "got NaN"]),
    "label missing": (one('"content": "d"'), FormatError, ["documents[1]", "'is_relevant' is missing"]),
    "label NaN": (one('"content": "d", "label": NaN'), FormatError, ["documents[1]", "'label'", "got NaN", "Label this"]),
    "label nan": (one('"content": "d", "label": "nan"'), FormatError, ["got 'nan'"]),
    "label null": (one('"content": "d", "is_relevant": null'), FormatError, ["'is_relevant'", "got null"]),
    "label infinite": (one('"content": "d", "label": Infinity'), FormatError, ["got Infinity"]),
    "label between": (one('"content": "d", "label": 0.7'), FormatError, ["got 0.7", "whole number", "Choose the value from which"]),
    "label between, as a text": (one('"content": "d", "label": "0.7"'), FormatError, ["got '0.7'", "Choose the value from which"]),
    "label a word": (one('"content": "d", "label": "maybe"'), FormatError, ["got 'maybe'"]),
    "label a list": (one('"content": "d", "label": [1, 0]'), FormatError, ["got a list of 2"]),
    "label too large": (one('"content": "d", "label": 4294967296'), FormatError, ["got 4294967296"]),
    "no positive": (one('"content": "d", "label": 0'), JudgmentError, ["no document is judged relevant"]),
    "no query with text": ('[{"query": " ", "documents": [{"content": "d", "label": 1}]}]', JudgmentError, ["there is no query"]),
    "no document": ('[{"query": "q", "documents": []}]', JudgmentError, ["there is no document"]),
    "positive missing": (f'[{ROW}, {{"query": "r"}}]', FormatError, ["record 2", "'positive' is missing", "'pos'"]),
    "positive an object": (f'[{ROW}, {{"query": "r", "positive": {{}}}}]', FormatError, ["record 2", "'positive'", "a list of texts"]),
    "negative a number": (f'{ROW}\n{{"query": "q", "positive": "d", "negative": [1]}}', FormatError, ["line 2", "'negative'", "got 1"]),
    "query of a row a list": ('[{"query": ["q"], "positive": "d"}]', FormatError, ["record 1", "'query'", "got a list of 1"]),
    "row too long": ("query,positive\nq,a, b\n", FormatError, ["line 2", "3 cells", "2 ("]),
    "row too short": ('query,positive,negative\n"a\nb",d,e\nq,d\n', FormatError, ["line 4", "2 cells"]),
    "quote left open": ('query,positive\nq,d\nr,"d\n', FormatError, ["line 3", "CSV is broken"]),
    "binary": (bytes(range(256)), FormatError, [""]),
}  # fmt: skip


def refuse(read: Callable[[], object], kind: type[HomingError], parts: list[str]) -> None:
    with pytest.raises(HomingError) as caught:
        read()
    message = str(caught.value)
    assert type(caught.value) is kind, message
    assert all(part in message for part in parts), message
    assert caught.value.remedy
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("name", REFUSED)
def test_bad_file_is_refused_with_its_place_and_a_remedy(tmp_path: Path, name: str) -> None:
    content, kind, parts = REFUSED[name]
    path = put(tmp_path / "data.json", content)
    refuse(lambda: load(path), kind, [str(path), *parts])


REFUSED_FOLDERS: dict[str, tuple[dict[str, str | bytes], type[HomingError], list[str]]] = {
    "unknown document": ({"train": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td-907\t1\n"}, JudgmentError,
        ["train.tsv line 3: document 'd-907' is not in the corpus (2 documents)", "Remove the judgment"]),
    "unknown query": ({"test": "q1\td1\t1\nq9\td1\t1\n"}, JudgmentError, ["test.tsv line 2", "'q9' is not among the 2 queries"]),
    "columns missing": ({"train": "q1 d1 1\n"}, FormatError, ["train.tsv line 1", "three columns", "'q1 d1 1'", "a tab"]),
    "score a word": ({"train": "q1\td1\t1\nq1\td2\thigh\n"}, FormatError, ["train.tsv line 2", "'score'", "'high'"]),
    "score NaN": ({"train": "q1\td1\tnan\n"}, FormatError, ["train.tsv line 1", "'nan'"]),
    "qrels not UTF-8": ({"train": b"q1\td1\t1\nq\xff\td1\t1\n"}, FormatError, ["train.tsv line 2", "0xff at offset 9"]),
    "no judgment": ({"train": "query-id\tcorpus-id\tscore\n"}, JudgmentError, ["no document is judged relevant"]),
    "no id": ({"corpus": '{"id": "d1", "text": "x"}\n'}, FormatError, ["corpus.jsonl line 1", "'_id' is missing", "'id', 'text'"]),
    "no text": ({"queries": '{"_id": "q1", "query": "x"}\n'}, FormatError, ["queries.jsonl line 1", "'text' is missing"]),
    "id twice": ({"corpus": '{"_id": "d1", "text": "x"}\n{"_id": "d1", "text": "y"}\n'}, FormatError, ["line 2", "'d1' occurs twice"]),
    "id with a tab": ({"corpus": '{"_id": "a\\tb", "text": "x"}\n'}, FormatError, ["corpus.jsonl line 1", "without tabs"]),
    "id a boolean": ({"corpus": '{"_id": true, "text": "x"}\n'}, FormatError, ["corpus.jsonl line 1", "got true"]),
    "text a number": ({"corpus": '{"_id": "d1", "text": 3}\n'}, FormatError, ["corpus.jsonl line 1", "'text'", "got 3"]),
    "a list": ({"corpus": '[{"_id": "d1", "text": "x"}]'}, FormatError, ["corpus.jsonl line 1", "an object"]),
    "broken": ({"corpus": '{"_id": "d1", "text": "x"}\n{"_id": \n'}, FormatError, ["corpus.jsonl line 2", "broken JSON at line 2, column"]),
    "empty corpus": ({"corpus": "\n", "train": "\n"}, JudgmentError, ["there is no document"]),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED_FOLDERS)
def test_bad_folder_is_refused_with_its_place_and_a_remedy(tmp_path: Path, name: str) -> None:
    files, kind, parts = REFUSED_FOLDERS[name]
    path = beir_folder(tmp_path / "b", **files)
    refuse(lambda: load(path), kind, [str(path), *parts])


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels"])
def test_folder_that_lacks_a_part_says_which(tmp_path: Path, missing: str) -> None:
    path = beir_folder(tmp_path / "b")
    shutil.rmtree(path / missing) if missing == "qrels" else (path / missing).unlink()
    told = {"qrels": ["qrels/train.tsv", "a query id, a document id and 1 or 0 a line"]}.get(missing, [missing, "Add what is missing"])
    refuse(lambda: load(path), FormatError, [str(path), "is missing", *told])
    if missing == "qrels":
        (path / "qrels").mkdir()
        (path / "qrels" / "heldout.tsv").touch()
        refuse(lambda: load(path), FormatError, ["In qrels/, call heldout.tsv train.tsv"])
        shutil.move(path / "qrels" / "heldout.tsv", path / "qrels.tsv")
        refuse(lambda: load(path), FormatError, ["Move qrels.tsv to qrels/train.tsv"])


def test_a_folder_of_other_files_is_told_how_to_be_given(tmp_path: Path) -> None:
    for name in ("train.jsonl", "validation.jsonl", "test.jsonl"):
        (tmp_path / name).touch()
    told = f"Name its files: {tmp_path / 'train.jsonl'} --dev {tmp_path / 'validation.jsonl'} --test {tmp_path / 'test.jsonl'}."
    refuse(lambda: load(tmp_path), FormatError, [told])
    (tmp_path / "test.jsonl").unlink()
    refuse(lambda: load(tmp_path), FormatError, [f"--test {tmp_path / 'validation.jsonl'}."])  # two files: the second is the test
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "data-00000-of-00001.arrow").touch()
    refuse(lambda: load(tmp_path), FormatError, ["load_from_disk"])


def test_paths_and_formats_that_do_not_fit(tmp_path: Path) -> None:
    file = put(tmp_path / "a.json", [CANDIDATES])
    refuse(lambda: load(tmp_path / "absent.json"), FormatError, ["absent.json", "No such file"])
    refuse(lambda: load(file, "xml"), FormatError, ["'xml'", "candidates, rows, pairs, beir"])
    refuse(lambda: load(file, "trec"), FormatError, [str(file), "no such directory"])
    refuse(lambda: load(file, "beir"), FormatError, [str(file), "no such directory"])
    refuse(lambda: load(file, "rows"), FormatError, ["record 1", "'positive' is missing"])
    refuse(lambda: load(beir_folder(tmp_path / "b"), "rows"), FormatError, [str(tmp_path / "b"), "s a directory"])
    refuse(lambda: load(put(tmp_path / "a.csv", "query,positive\nq,d\n"), "candidates"), FormatError, ["line 2", "no list of candidates"])


def test_a_named_format_is_taken_over_the_found_one(tmp_path: Path) -> None:
    both = {"query": "q", "positive": "d", "documents": [{"content": "e", "label": 1}]}
    path = put(tmp_path / "a.json", [both])
    assert judgments(load(path)) == [("q", "d", 1)]
    assert judgments(load(path, "candidates")) == [("q", "e", 1)]


# Garbage: an error of ours, or a dataset

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "q", "d", "true", "nan"]) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["query", "positive", "negative", "documents", "content", "label"]) | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=16,
)
names = st.sampled_from([None, *formats.FORMATS])


def read_or_refuse(path: Path, format: str | None = None) -> None:
    try:
        data = load_splits(path, format=format)
    except HomingError:
        return
    else:
        assert len(next(iter(data)).qrels if not isinstance(data, Dataset) else data.qrels)


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()), names)
@example(b"[", None)
@example(b"\x0c[]", None)
@example(b"{", None)
@example(b'\x0b{"query": "q", "positive": "d"}', None)
@example(b'"', "rows")
@example(b"\x00,\x00\n\x00,\x00", "rows")
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, format: str | None) -> None:
    read_or_refuse(put(tmp_path_factory.mktemp("garbage") / "a", content), format)


@given(st.sampled_from([json.dumps([CANDIDATES] * 2), f"{GOOD}\n{ROW}", "query,positive,negative\nq,d,e\n"]), st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str, data: st.DataObject) -> None:
    content = text.encode()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 5)))
    damaged = content[:start] + data.draw(st.binary(max_size=4)) + content[end:]
    read_or_refuse(put(tmp_path_factory.mktemp("damaged") / "a", damaged), data.draw(names))


@given(st.binary(max_size=60), st.sampled_from(["corpus", "queries", "train", "dev"]))
def test_any_folder_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes, file: str) -> None:
    path = beir_folder(tmp_path_factory.mktemp("garbage") / "b")
    put(path / ("qrels" if file in ("train", "dev") else "") / (f"{file}.tsv" if file in ("train", "dev") else f"{file}.jsonl"), content)
    read_or_refuse(path)


# Round trips

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).map(str.strip).filter(bool)
judged = st.lists(st.tuples(texts, texts, st.integers(0, 3)), min_size=1, max_size=12)


def dataset(listed: Judgments) -> Dataset:
    builder = Builder()
    for query, document, grade in listed:
        builder.judge(builder.query(query), builder.document(document), grade)
    builder.judge(builder.query(listed[0][0]), builder.document("always relevant"), 1)
    return builder.dataset()


def again(data: Dataset, write: Callable[[Dataset, Path], None], path: Path) -> Dataset:
    write(data, path)
    return load(path)


@given(judged, st.sampled_from([".json", ".jsonl"]))
def test_candidates_come_back(tmp_path_factory: pytest.TempPathFactory, listed: Judgments, suffix: str) -> None:
    data = dataset(listed)
    copy = again(data, candidates.write, tmp_path_factory.mktemp("trip") / f"a{suffix}")
    assert judgments(copy) == judgments(data)
    assert copy.queries.texts == data.queries.texts


@given(judged, st.sampled_from([".json", ".jsonl", ".csv"]))
def test_rows_come_back_up_to_grades_and_order(tmp_path_factory: pytest.TempPathFactory, listed: Judgments, suffix: str) -> None:
    data = dataset(listed)
    copy = again(data, rows.write, tmp_path_factory.mktemp("trip") / f"a{suffix}")
    assert set(judgments(copy)) == {(query, document, min(grade, 1)) for query, document, grade in judgments(data)}
    assert copy.queries.texts == data.queries.texts


@given(judged)
def test_beir_comes_back_whole(tmp_path_factory: pytest.TempPathFactory, listed: Judgments) -> None:
    data = dataset(listed)
    copy = again(data, beir.write, tmp_path_factory.mktemp("trip") / "b")
    assert judgments(copy) == judgments(data)
    assert (copy.corpus.ids, copy.corpus.texts) == (data.corpus.ids, data.corpus.texts)
    assert (copy.queries.ids, copy.queries.texts) == (data.queries.ids, data.queries.texts)


def test_written_twice_is_the_same_bytes(tmp_path: Path) -> None:
    data = dataset([("问", "答", 0), ("q", "d", 2)])
    for write, name in ((candidates.write, "a.json"), (rows.write, "a.csv"), (rows.write, "a.jsonl")):
        write(data, tmp_path / name)
        first = (tmp_path / name).read_bytes()
        write(load(tmp_path / name), tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
        assert b"\r\n" in first if name.endswith("csv") else b"\r" not in first


def test_real_data_reads_alike_in_both_of_its_formats(shared: Path) -> None:
    lists, folder = load(shared / "zh-cli" / "dev.json"), load(shared / "zh-cli")
    positives = {pair for *pair, grade in map(list, judgments(lists)) if grade for pair in [tuple(pair)]}
    assert positives <= {(query, document) for query, document, grade in judgments(folder) if grade}
    assert Counter(folder.notes) == Counter({"pooled_splits": 3})


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "\ufeffSEP=;"])
def test_the_line_that_tells_excel_the_separator_is_no_header(tmp_path: Path, first: str) -> None:
    text = f"{first}\r\nquery;content;is_relevant\r\nq, and more;d;1\r\nq, and more;e,e,e,e;0\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert judgments(load(tmp_path / "a.csv")) == [("q, and more", "d", 1), ("q, and more", "e,e,e,e", 0)]


@pytest.mark.parametrize("header", ["query-id\tcorpus-id\tscore", "qid\tdocid\trel", "q\td\tScore", ""])
def test_qrels_may_have_any_header_or_none(tmp_path: Path, header: str) -> None:
    (tmp_path / "qrels").mkdir()
    for name, key in (("corpus", "d1"), ("queries", "q1")):
        put(tmp_path / f"{name}.jsonl", json.dumps({"_id": key, "text": key}) + "\n")
    put(tmp_path / "qrels" / "train.tsv", f"{header}\nq1\td1\t1\n")
    assert judgments(load(tmp_path)) == [("q1", "d1", 1)]
    put(tmp_path / "qrels" / "train.tsv", "q2\td1\t1\nq1\td1\t1\n")
    with pytest.raises(JudgmentError, match="query 'q2' is not among"):
        load(tmp_path)


@pytest.mark.parametrize(("label", "relevance"), [(None, 1), (1, 1), (0, 0), ("false", 0), ("true", 1), (0.0, 0), (2, 2)])
def test_a_label_of_ms_swift_is_a_relevance(tmp_path: Path, label: Any, relevance: int) -> None:
    records = [{"query": "q", "response": "d", "label": label}, {"query": "q", "response": "e"}]
    assert judgments(load(put(tmp_path / "a.json", records))) == [("q", "d", relevance), ("q", "e", 1)]
    with pytest.raises(FormatError, match=r"'label' is no relevance; got 0\.4"):
        load(put(tmp_path / "a.json", [{**records[0], "label": 0.4}]))


def test_documents_of_ms_swift_may_be_an_assistants_as_rerankers_have_them(tmp_path: Path) -> None:
    def said(text: str, role: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": "Judge."}, {"role": role, "content": text}]

    record = {"messages": said("q", "user"), "positive_messages": [said("d", "assistant")], "negative_messages": [said("e", "assistant")]}
    assert judgments(load(put(tmp_path / "a.json", [record]))) == [("q", "d", 1), ("q", "e", 0)]
    for name, wrong in (("messages", said("q", "assistant")), ("positive_messages", [said("d", "tool")])):
        with pytest.raises(FormatError, match=f"'{name}' holds no message of user"):
            load(put(tmp_path / "a.json", [record | {name: wrong}]))


def test_a_label_may_stand_alone_in_a_list_as_doccano_writes_it(tmp_path: Path) -> None:
    records = [
        {"query": "q", "text": text, "label": label, "Comments": []} for text, label in (("d", ["相关"]), ("e", ["不相关"]), ("f", [2]))
    ]
    assert judgments(load(put(tmp_path / "a.json", records))) == [("q", "d", 1), ("q", "e", 0), ("q", "f", 2)]
    with pytest.raises(FormatError, match="'label' is no relevance; got a list of 2"):
        load(put(tmp_path / "a.json", [records[0] | {"label": ["相关", "不相关"]}]))


def test_a_workbook_of_several_sheets_names_the_one_that_is_read(tmp_path: Path) -> None:
    book = Workbook()
    book.active.title = "填写说明"
    for row in (["请在下一页填写"], ["不要改列名"]):
        book.active.append(row)
    book.create_sheet("数据").append(["问题", "答案"])
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(FormatError, match=r"a\.xlsx sheet '填写说明' row 2: .*\n.*of several sheets the first with rows is read"):
        load(tmp_path / "a.xlsx")


def test_a_carriage_return_of_excel_is_white_space(tmp_path: Path) -> None:
    book = Workbook()
    for row in (["问题", "答案"], ["如何退保", "先打电话。_x000D_\n再寄单据。"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    assert load(tmp_path / "a.xlsx").corpus.texts == ("先打电话。\r\n再寄单据。",)


def test_what_has_no_width_tells_no_texts_apart_and_is_no_text(tmp_path: Path) -> None:
    records = [("\u200bq", "d e", 1), ("q", "d\u2060 e\ufeff", 1), ("q\ufeff ", "f", 0), ("q", "\u200b", 0), (" \ufeff", "f", 0)]
    pairs = [dict(zip(("query", "content", "label"), record, strict=True)) for record in records]
    data = load(put(tmp_path / "a.json", pairs))
    assert judgments(data) == [("q", "d e", 1), ("q", "f", 0)]
    assert (data.notes["empty_documents"], data.notes["empty_queries"]) == (1, 1)


def test_labels_that_say_no_to_what_others_say_yes_to(tmp_path: Path) -> None:
    for yes, no in (("对", "不对"), ("正确", "不正確"), ("是", "不是"), ("匹配", "不匹配"), ("相關", "無關")):
        table = put(tmp_path / "a.csv", f"问题,文档标题,内容,标签\nq,t,d,{yes}\nq,,e,{no}\n")
        assert judgments(load(table)) == [("q", "t d", 1), ("q", "e", 0)]
