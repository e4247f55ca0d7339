"""Other programs' formats: written, taken by their own loaders where those are here, and read back."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import homing.cli.options
from homing import formats
from homing.builder import Builder
from homing.cli import cli, main
from homing.converting import TARGETS, convert, judgments
from homing.data import Dataset, Mined, Splits
from homing.errors import FormatError, HomingError, SettingError
from homing.formats import headers, streams
from homing.formats.mined import save_mined
from homing.formats.records import records
from homing.loading import load, load_splits, read_dataset, save_dataset
from homing.mining import mine
from homing.settings import Mining
from homing.splitting import split
from tiny import made_data

TEXTS = {"q1": "保单何时生效？", "q2": "Is hail covered?"}
SUFFIXES = {"rows": ".jsonl", "pairs": ".parquet", "llamaindex": ".json", "beir": "", "trec": ""}


def small() -> Dataset:
    builder = Builder()
    for query, document, grade in (
        (TEXTS["q1"], "自签收次日零时起。", 2), (TEXTS["q1"], "保费每年一月缴纳。", 0), (TEXTS["q2"], "Hail, and storm\tfrom force 8.", 1),
        (TEXTS["q2"], 'Premiums "are" due;\neach January.', 0), (TEXTS["q2"], "A third answer", 0), ("Nobody knows", "A third answer", 0),
    ):  # fmt: skip
        builder.judge(builder.query(query), builder.document(document), grade)
    builder.document("Nobody judged this")
    return builder.dataset()


def told(data: Dataset) -> set[tuple[str, str, int]]:
    """The judgments in words: text of the query, of the document, and whether it is relevant."""
    columns = (data.qrels.query.tolist(), data.qrels.document.tolist(), data.qrels.relevance.tolist())
    return {
        (data.queries.texts[query], data.corpus.texts[document], int(grade > 0)) for query, document, grade in zip(*columns, strict=True)
    }


def taught(data: Dataset) -> set[tuple[str, str, int]]:
    """The judgments of queries that have something relevant: what examples can hold."""
    positive = {query for query, _, grade in told(data) if grade}
    return {each for each in told(data) if each[0] in positive}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def run(tmp_path: Path) -> tuple[Splits, Mined]:
    """Split and mined as `homing run` leaves them in its directory."""
    splits = split(load(made_data(tmp_path / "made")))
    save_dataset(splits, tmp_path / "dataset")
    splits = read_dataset(tmp_path / "dataset")
    mined = mine(splits.train, Mining(negatives=2))
    (tmp_path / "mined").mkdir()
    save_mined(mined, tmp_path / "mined")
    return splits, mined


def unjudged(mined: Mined) -> Mined:
    """The same rows, as if nobody had judged the first negative of each."""
    known = mined.judged.copy()
    known[:, 0] = False
    return Mined(**{**{name: getattr(mined, name) for name in mined.__dataclass_fields__}, "judged": known})


# Every format


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_what_is_written_is_found_by_content_and_read_back(tmp_path: Path, target: str, suffix: str) -> None:
    data = small()
    if target == "llamaindex":
        suffix = ".json"
    path = tmp_path / ("folder" if target in ("beir", "trec") else f"data{suffix}")
    made = convert(data, target, path)
    read_as = {"flagembedding": "rows", "sentence-transformers": "rows", "ms-swift-old": "ms-swift"}.get(target, target)
    assert formats.detect(path) == read_as
    copy = load(path)
    if target == "llamaindex":
        assert told(copy) == {each for each in told(data) if each[2]}
        assert copy.corpus.ids == data.corpus.ids
    elif target == "trec":  # a text is one line there
        assert told(copy) == {(query, " ".join(document.split()), grade) for query, document, grade in told(data)}
    elif target in ("candidates", "pairs", "beir"):
        assert told(copy) == told(data)
        assert copy.qrels.relevance.max() == 2  # grades are kept
    elif target == "rows":
        assert told(copy) == told(data)
    else:
        assert told(copy) == taught(data)
        assert made.left_out["queries without a positive"] == 1
    assert not list(tmp_path.glob(".*"))


def test_flags_of_the_command_line_are_the_formats_there_are() -> None:
    assert tuple(formats.FORMATS) == homing.cli.options.FORMATS
    assert set(homing.cli.options.TARGETS) == set(TARGETS)


@pytest.mark.parametrize(
    ("target", "record"),
    [
        ("flagembedding", {"query": TEXTS["q1"], "pos": ["自签收次日零时起。"], "neg": ["保费每年一月缴纳。"]}),
        ("sentence-transformers", {"anchor": TEXTS["q1"], "positive": "自签收次日零时起。", "negative": "保费每年一月缴纳。"}),
        ("ms-swift-old", {"query": TEXTS["q1"], "response": "自签收次日零时起。", "rejected_response": ["保费每年一月缴纳。"]}),
        (
            "ms-swift",
            {
                "messages": [{"role": "user", "content": TEXTS["q1"]}],
                "positive_messages": [[{"role": "user", "content": "自签收次日零时起。"}]],
                "negative_messages": [[{"role": "user", "content": "保费每年一月缴纳。"}]],
            },
        ),
    ],
)
def test_a_record_is_as_the_program_wants_it(tmp_path: Path, target: str, record: dict[str, Any]) -> None:
    convert(small(), target, tmp_path / "a.jsonl")
    assert lines(tmp_path / "a.jsonl")[0] == record


def test_tevatron_passages_have_ids_and_titles_are_joined(tmp_path: Path) -> None:
    data = small()
    convert(data, "tevatron", tmp_path / "a.jsonl")
    first = lines(tmp_path / "a.jsonl")[0]
    assert first["query_id"] == data.queries.ids[0]
    assert first["positive_passages"] == [{"docid": data.corpus.ids[0], "title": "", "text": "自签收次日零时起。"}]
    first["positive_passages"][0]["title"] = "生效"
    (tmp_path / "b.jsonl").write_text(json.dumps(first), encoding="utf-8")
    assert "生效 自签收次日零时起。" in load(tmp_path / "b.jsonl").corpus.texts
    dpr = {"question": "q", "answers": ["a"], "positive_ctxs": [{"title": "t", "text": "d", "score": 1000}], "negative_ctxs": []}
    (tmp_path / "dpr.json").write_text(json.dumps([dpr | {"hard_negative_ctxs": [{"title": "", "text": "e"}]}]))
    assert told(load(tmp_path / "dpr.json")) == {("q", "t d", 1), ("q", "e", 0)}


# Mined rows, by other programs' own loaders


def test_mined_rows_keep_the_grades_of_what_was_judged(tmp_path: Path) -> None:
    convert(mine(small(), Mining(retriever="list", negatives=2)), "beir", tmp_path / "beir")
    grades = [line.split("\t")[2] for line in (tmp_path / "beir" / "qrels" / "train.tsv").read_text().splitlines()[1:]]
    assert sorted(grades) == ["0", "0", "0", "1", "2"]  # of queries that have a positive


def test_sentence_transformers_trains_on_mined_rows(tmp_path: Path, run: tuple[Splits, Mined], tiny_model: Path) -> None:
    from datasets import load_dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    _, mined = run
    convert(mined, "sentence-transformers", tmp_path / "train.parquet")
    rows = load_dataset("parquet", data_files=str(tmp_path / "train.parquet"), split="train", cache_dir=str(tmp_path / "cache"))
    assert rows.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    assert len(rows) == len(mined)
    model = SentenceTransformer(str(tiny_model), device="cpu")
    features = [model.preprocess(list(rows[name][:4])) for name in rows.column_names]
    loss = MultipleNegativesRankingLoss(model)(features, labels=None)
    assert float(loss.detach()) > 0


def test_rows_of_different_lengths_are_triplets_and_nothing_is_empty(tmp_path: Path, run: tuple[Splits, Mined]) -> None:
    _, mined = run
    mined.negative[0, 1] = -1
    mined.negative[1, :] = -1
    made = convert(mined, "sentence-transformers", tmp_path / "a.jsonl")
    rows = lines(tmp_path / "a.jsonl")
    assert len(rows) == int((mined.negative >= 0).sum())
    assert all(set(row) == {"anchor", "positive", "negative"} and all(row.values()) for row in rows)
    assert made.left_out == {"examples without a negative": 1}


def test_pairs_alone_are_two_columns(tmp_path: Path) -> None:
    builder = Builder()
    builder.judge(builder.query("q"), builder.document("d"), 1)
    convert(builder.dataset(), "sentence-transformers", tmp_path / "a.jsonl")
    assert lines(tmp_path / "a.jsonl") == [{"anchor": "q", "positive": "d"}]


@pytest.mark.parametrize("target", ["rows", "flagembedding", "ms-swift", "ms-swift-old", "tevatron"])
@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_datasets_loads_what_is_written(tmp_path: Path, run: tuple[Splits, Mined], target: str, suffix: str) -> None:
    from datasets import load_dataset

    _, mined = run
    path = tmp_path / f"a{suffix}"
    made = convert(mined, target, path)
    kind = "json" if suffix == ".jsonl" else "parquet"
    rows = load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == len(mined) == made.counts["examples"]
    assert told(load(path)) == told(judgments(mined))


def test_an_unjudged_negative_is_no_judgment(tmp_path: Path, run: tuple[Splits, Mined]) -> None:
    _, mined = run
    mined = unjudged(mined)
    apart = {(int(query), int(document)) for query, document in zip(mined.query, mined.negative[:, 0], strict=True)}
    for target in ("candidates", "pairs", "beir", "trec"):
        path = tmp_path / f"{target}{SUFFIXES.get(target, '.jsonl')}"
        convert(mined, target, path)
        assert told(load(path)) == told(judgments(mined))
        if target in ("beir", "trec"):
            run_lines = [line.split(" ") for line in (path / "negatives.run").read_text(encoding="utf-8").splitlines()]
            names = mined.train
            assert {(names.queries.index[line[0]], names.corpus.index[line[2]]) for line in run_lines} == apart
            assert all(line[1] == "Q0" and line[5] == "homing" for line in run_lines)
            ranks = Counter(line[0] for line in run_lines)
            assert all(int(line[3]) <= ranks[line[0]] for line in run_lines)


def test_a_folder_as_ms_marco_and_t2ranking_have_it(tmp_path: Path) -> None:
    for name, text in {
        "collection.tsv": "pid\ttext\n0\t退保打电话\n1\t理赔三天\n", "queries.train.tsv": "qid\ttext\n7\t怎么退\n",
        "queries.dev.tsv": "qid\ttext\n8\t几天赔\n", "qrels.train.tsv": "qid\t-\tpid\trel\n7\t0\t0\t3\n7\t0\t1\t0\n",
        "qrels.dev.tsv": "8\t0\t1\t1\n",
    }.items():  # fmt: skip
        (tmp_path / name).write_text(text, encoding="utf-8")
    data = load(tmp_path)
    assert told(data) == {("怎么退", "退保打电话", 1), ("怎么退", "理赔三天", 0), ("几天赔", "理赔三天", 1)}
    assert (len(data.corpus), len(data.queries)) == (2, 2)
    (tmp_path / "queries.dev.tsv").write_text("7\t几天赔\n", encoding="utf-8")
    with pytest.raises(FormatError, match="the id occurs twice"):
        load(tmp_path)


def test_pytrec_eval_reads_a_trec_folder(tmp_path: Path, run: tuple[Splits, Mined]) -> None:
    import pytrec_eval

    splits, _ = run
    convert(splits, "trec", tmp_path / "t")
    with (tmp_path / "t" / "qrels.test.txt").open(encoding="utf-8") as file:
        qrels = pytrec_eval.parse_qrel(file)
    test = splits.test
    assert {(query, document): grade for query, found in qrels.items() for document, grade in found.items()} == {
        (test.queries.ids[query], test.corpus.ids[document]): grade
        for query, document, grade in zip(
            test.qrels.query.tolist(), test.qrels.document.tolist(), test.qrels.relevance.tolist(), strict=True
        )
    }
    again = load_splits(tmp_path / "t")
    assert isinstance(again, Splits)
    for side, copy in zip(splits, again, strict=True):
        assert told(side) == told(copy)


# The command


def test_command_writes_a_split_a_run_s_rows_and_says_what_has_no_place(tmp_path: Path, run: tuple[Splits, Mined]) -> None:
    splits, mined = run
    done = CliRunner().invoke(
        cli, ["convert", str(tmp_path / "dataset"), "--to", "llamaindex", "--split", "dev", "--out", str(tmp_path / "d.json")]
    )
    assert done.exit_code == 0, done.output
    assert told(load(tmp_path / "d.json")) == {each for each in told(splits.dev) if each[2]}
    assert "llamaindex has no place for" in done.output
    done = CliRunner().invoke(cli, ["convert", str(tmp_path / "mined"), "--to", "flagembedding", "--out", str(tmp_path / "m.jsonl")])
    assert done.exit_code == 0, done.output
    assert len(lines(tmp_path / "m.jsonl")) == len(mined)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "tevatron", "--out", "a.csv"], "ends in .json or .jsonl or .parquet"),
        (["--to", "rows", "--split", "dev", "--out", "a.csv"], "no splits"),
        (["--to", "beir", "--out", "made.json"], "the source itself"),
    ],
)
def test_what_cannot_be_written_is_said_first(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made_data(tmp_path / "made")
    monkeypatch.chdir(source.parent)
    source.rename("made.json")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", "made.json", *arguments])
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["made.json"]


def test_formats_without_a_name_for_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="there is no format 'xml'"):
        convert(small(), "xml", tmp_path / "a.xml")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="is a folder, and a file stands there"):
        convert(small(), "beir", tmp_path / "file")


# Spreadsheets and Parquet


def sheet(path: Path, rows: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_a_spreadsheet_reads_like_the_csv_of_it(tmp_path: Path) -> None:
    path = sheet(
        tmp_path / "a.xlsx",
        [[], ["Query", "content", "is_relevant"], ["问", "答", True], [], ["问", 12, 0], ["q", 1.5, "TRUE"], ["q", "last", 2.0]],
    )
    assert formats.detect(path) == "pairs"
    data = load(path)
    assert told(data) == {("问", "答", 1), ("问", "12", 0), ("q", "1.5", 1), ("q", "last", 1)}
    assert data.qrels.relevance.max() == 2


def test_sheets_that_are_not_read_are_counted(tmp_path: Path) -> None:
    book = openpyxl.load_workbook(sheet(tmp_path / "a.xlsx", []))
    for name, rows in (("first", [["query", "positive"], ["q", "d"]]), ("empty", []), ("second", [["query", "positive"], ["r", "e"]])):
        made = book.create_sheet(name)
        for row in rows:
            made.append(row)
    book.save(tmp_path / "a.xlsx")
    data = load(tmp_path / "a.xlsx")
    assert told(data) == {("q", "d", 1)}
    assert data.notes["ignored_sheets"] == 1


def test_a_sheet_is_larger_than_it_says(tmp_path: Path) -> None:
    """Writers that stream (POI's SXSSF, EasyExcel) put A1 as its dimension."""
    path = sheet(tmp_path / "a.xlsx", [["query", "positive"], ["q", "d"]])
    with ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    with ZipFile(path, "w") as book:
        for name, content in parts.items():
            book.writestr(name, content.replace(b'<dimension ref="A1:B2"', b'<dimension ref="A1"'))
    assert b'"A1"' in ZipFile(path).read("xl/worksheets/sheet1.xml")
    assert told(load(path)) == {("q", "d", 1)}


def test_rows_of_a_spreadsheet_may_end_early(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["query", "positive", "negative_1", "negative_2"], ["q", "d", "e"], ["r", "d", None, "f", None]])
    assert told(load(path)) == {("q", "d", 1), ("q", "e", 0), ("r", "d", 1), ("r", "f", 0)}


def test_what_is_merged_over_rows_stands_in_each_of_them(tmp_path: Path) -> None:
    """As people write judged candidates: the query once, merged over the rows of its candidates."""
    rows = [
        ["query", "content", "is_relevant", "source"], ["q", "d", 1, "a"], [None, "e", 0], [None, None], [None, "f", 0],
        ["r", "d", 0, "b"], [None, "g", 1, "b"],
    ]  # fmt: skip
    book = openpyxl.load_workbook(sheet(tmp_path / "a.xlsx", rows))
    for merged in ("A2:A5", "A6:A7", "D2:D5"):
        book.active.merge_cells(merged)
    book.save(tmp_path / "a.xlsx")
    data = load(tmp_path / "a.xlsx")
    assert told(data) == {("q", "d", 1), ("q", "e", 0), ("q", "f", 0), ("r", "d", 0), ("r", "g", 1)}
    assert data.queries.columns == {"source": ("a", "b")}
    assert not data.notes.get("empty_queries")
    book.active.insert_rows(1)
    book.active["A1"] = "Judged in November"
    book.save(tmp_path / "a.xlsx")
    with pytest.raises(FormatError, match="Let the first row name the columns"):
        load(tmp_path / "a.xlsx")


def test_texts_that_parquet_holds_as_bytes_are_texts(tmp_path: Path) -> None:
    plain = {"query": ["q", "问"], "content": ["d", "答"], "is_relevant": [1, 0]}
    columns = {name: [each.encode() if isinstance(each, str) else each for each in values] for name, values in plain.items()}
    pq.write_table(pa.table({**columns, "raw": [b"\xff", b"\xfe"]}), tmp_path / "a.parquet")
    assert told(load(tmp_path / "a.parquet")) == {("q", "d", 1), ("问", "答", 0)}
    lists = pa.array([[{"content": b"d", "is_relevant": True}]])
    pq.write_table(pa.table({"query": [b"q"], "documents": lists}), tmp_path / "b.parquet")
    assert told(load(tmp_path / "b.parquet")) == {("q", "d", 1)}


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("query", [date(2026, 1, 2)] * 2, r"a\.parquet row 1: 'query' has the wrong type; got .*2026-01-02"),
        ("query", [b"\xff", b"q"], r"a\.parquet row 1: 'query' has the wrong type"),
        ("is_relevant", [Decimal("1.0"), Decimal("0.5")], r"a\.parquet row 2: 'is_relevant' is no relevance; got \W0\.5\W;"),
        ("is_relevant", [Decimal("1.0"), Decimal("0.0")], ""),
    ],
)
def test_values_that_only_parquet_has(tmp_path: Path, column: str, values: list[Any], said: str) -> None:
    table = {"query": ["q", "q"], "content": ["d", "e"], "is_relevant": [1, 0], column: values}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    if not said:
        assert told(load(tmp_path / "a.parquet")) == {("q", "d", 1), ("q", "e", 0)}
        return
    with pytest.raises(FormatError, match=said):
        load(tmp_path / "a.parquet")


def test_ids_of_llamaindex_fit_into_qrels_and_its_file_may_be_packed(tmp_path: Path) -> None:
    whole = {"queries": {"q": "a question"}, "corpus": {"d": "an answer"}, "relevant_docs": {"q": ["d"]}}
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(whole).encode()))
    assert told(load(tmp_path / "a.json.gz")) == {("a question", "an answer", 1)}
    for wrong in ("d\t1", "", "\ud800"):
        (tmp_path / "a.json").write_text(json.dumps({**whole, "corpus": {"d": "an answer", wrong: "another"}}))
        with pytest.raises(FormatError, match=r"corpus: ('_id' holds half a character|the id is none)"):
            load(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PK\x03\x04 no zip", "the spreadsheet cannot be read"), (b"PAR1 no parquet PAR1", "the Parquet file cannot be read")],
)
def test_a_broken_table_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(FormatError, match=said):
        load(tmp_path / "a")


def test_a_label_of_a_sheet_that_says_neither_is_named_by_its_row(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["query", "content", "label"], ["q", "d", 1], ["q", "e", "maybe"]])
    with pytest.raises(FormatError, match=r"a\.xlsx row 3: 'label' is no relevance; got 'maybe'") as told:
        load(path)
    assert {"yes", "不相关"} <= set(str(told.value).replace(";", ",").split(", "))  # the words that are read


def test_a_title_above_the_names_of_the_columns_is_told_what_to_do(tmp_path: Path) -> None:
    path = sheet(tmp_path / "a.xlsx", [["Export of November"], ["query", "content", "label"], ["q", "d", 1]])
    with pytest.raises(FormatError, match=r"row 2: the row does not fit.*\n.*delete a title above them"):
        load(path)
    path = sheet(tmp_path / "b.xlsx", [["Export", "", "internal"], ["query", "content", "label"], ["q", "d", 1]])
    with pytest.raises(FormatError, match="the first row names them: delete what stands above it"):
        load(path)


def test_candidates_in_parquet_keep_their_lists(tmp_path: Path) -> None:
    data = small()
    convert(data, "candidates", tmp_path / "a.parquet")
    assert pq.read_table(tmp_path / "a.parquet").schema.names == ["query", "candidates"]
    assert told(load(tmp_path / "a.parquet")) == told(data)


# Long files


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.lists(
        st.dictionaries(st.text(max_size=4), values, max_size=4).filter(lambda each: headers.keys(tuple(each)) is None),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_an_array_read_through_a_small_window_is_the_array(
    tmp_path_factory: pytest.TempPathFactory, listed: list[dict[str, Any]], block: int, indent: int | None, ascii_only: bool
) -> None:
    path = tmp_path_factory.mktemp("window") / "a.json"
    text = json.dumps(listed, indent=indent, ensure_ascii=ascii_only)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(streams, "_BLOCK", block)
        try:
            text.encode()
        except UnicodeEncodeError:
            return
        assert [record.value for record in records(path, Counter())] == listed


@given(st.data(), st.integers(1, 30))
def test_a_broken_array_is_placed_alike_in_any_window(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, block: int) -> None:
    text = json.dumps(
        [{"query": "问题", "n": [1, {"a": "b"}]}, {"query": "r\n"}, {"query": "s"}],
        indent=data.draw(st.sampled_from([None, 1])),
        ensure_ascii=False,
    )
    at = data.draw(st.integers(1, len(text) - 1))
    path = tmp_path_factory.mktemp("window") / "a.json"
    path.write_text(text[:at] + data.draw(st.sampled_from(["", "}", "]", "x", "\n"])) + text[at + 1 :], encoding="utf-8")

    def outcome() -> list[Any] | str:
        try:
            return [record.value for record in records(path, Counter())]
        except HomingError as error:
            return str(error)

    whole = outcome()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(streams, "_BLOCK", block)
        assert outcome() == whole


@pytest.mark.parametrize("write", [pytest.param(True, id="array"), pytest.param(False, id="lines")])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, write: Callable[[], None]) -> None:
    record = json.dumps({"query": "q", "candidates": [{"content": "a text " * 40, "is_relevant": number == 0} for number in range(20)]})
    path = tmp_path / "long.json"
    path.write_text("[" + ", ".join([record] * 5000) + "]" if write else f"{record}\n" * 5000, encoding="utf-8")
    size = path.stat().st_size
    assert size > 25e6
    tracemalloc.start()
    try:
        count = sum(1 for _ in records(path, Counter()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert peak < size / 3


def test_judgments_are_merged_as_one_by_one() -> None:
    generator = np.random.default_rng(0)
    drawn = generator.integers(0, (5, 6, 3), size=(300, 3))
    builder = Builder()
    builder.query("relevant")
    kept: dict[tuple[int, int], list[int]] = {}
    for query, document, grade in drawn.tolist():
        place = builder.query(f"q{query}"), builder.document(f"d{document}")
        builder.judge(*place, grade)
        kept.setdefault(place, []).append(grade)
    data = builder.dataset()
    found = dict(zip(zip(data.qrels.query.tolist(), data.qrels.document.tolist(), strict=True), data.qrels.relevance.tolist(), strict=True))
    assert found == {place: max(grades) for place, grades in kept.items()}
    for query in set(data.qrels.query.tolist()):
        assert [document for place, document in found if place == query] == [document for place, document in kept if place == query]
    assert data.notes["repeated_judgments"] == 300 - len(kept)
    assert data.notes["judged_both_ways"] == sum(min(grades) == 0 < max(grades) for grades in kept.values())
