"""The demo's data: sentences with the functions they describe, in lists of candidates, sides without a common module."""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from rank_bm25 import BM25Plus

from homing import standard_library
from homing.errors import InputError
from homing.standard_library import CANDIDATES, FUNCTIONS, LINES, Function
from homing.texts.near import near_duplicates

STDLIB = Path(sysconfig.get_paths()["stdlib"])


@pytest.fixture(scope="module")
def found() -> list[Function]:
    return standard_library.functions(STDLIB)


@pytest.fixture(scope="module")
def sides(found: list[Function]) -> dict[str, list[Function]]:
    return dict(standard_library.split(found))


def write_module(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_a_function_gives_its_first_sentence_and_its_source_without_it(tmp_path: Path) -> None:
    write_module(
        tmp_path,
        "_box.py",
        '''
class Box:
    @property
    def weight(self):
        """Return the weight of
        the whole box.  It is in grams.

        More of it.
        """
        # empty boxes weigh too
        parts = self.parts

        return sum(parts)

    async def wait(self):
        r"""Wait until the \\d box is open"""
        await self.opened
''',
    )
    first, second = standard_library.functions(tmp_path)
    assert first == Function(
        module="box",
        name="weight",
        sentence="Return the weight of the whole box.",
        source="def weight(self):\n    # empty boxes weigh too\n    parts = self.parts\n    return sum(parts)",
    )
    assert second.source == "async def wait(self):\n    await self.opened"


def test_what_is_no_function_of_the_library_is_left_out(tmp_path: Path) -> None:
    useful = '"""Count all the lines of a file."""\n    return 1\n'
    for name in ("test/a.py", "site-packages/b.py", "pkg/tests/c.py", "idlelib/d.py", "turtledemo/e.py", "config-3/f.py"):
        write_module(tmp_path, name, f"def f():\n    {useful}")
    write_module(tmp_path, "broken.py", "def f(:\n")
    (tmp_path / "latin.py").write_bytes(b"def f():\n    '''Caf\xe9 and more words here.'''\n    return 1\n")
    write_module(tmp_path, "short.py", 'def f():\n    """Count lines."""\n    return 1\n')
    write_module(tmp_path, "empty.py", 'def f():\n    """Count all the lines of a file."""\n')
    write_module(tmp_path, "abstract.py", 'def f():\n    """Count all the lines of a file."""\n    raise NotImplementedError\n')
    write_module(tmp_path, "signature.py", 'def f():\n    """count(all, the, lines) -> of them"""\n    return 1\n')
    write_module(tmp_path, "line.py", 'def f(): "Count all the lines of a file."; return 1\n')
    write_module(tmp_path, "without.py", "def f():\n    return 1\n")
    assert standard_library.functions(tmp_path) == []
    write_module(tmp_path, "good.py", f"def f():\n    {useful}")
    write_module(tmp_path, "later.py", f"def g(x, y):\n    {useful}")
    assert [function.module for function in standard_library.functions(tmp_path)] == ["good"]


def test_an_old_escape_sequence_is_read_without_a_warning(tmp_path: Path) -> None:
    write_module(tmp_path, "old.py", 'def f(x):\n    """Count all the digits of x."""\n    return re.findall("\\d", x)\n')
    assert len(standard_library.functions(tmp_path)) == 1


def test_sides_share_no_module_and_no_text(sides: dict[str, list[Function]]) -> None:
    assert {side: len(sides[side]) for side in ("dev", "test")} == {side: FUNCTIONS[side] for side in ("dev", "test")}
    assert 0.8 * FUNCTIONS["train"] <= len(sides["train"]) <= FUNCTIONS["train"]  # what this Python's library has, up to the number
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        for part in ("module", "sentence", "source"):
            assert not {getattr(f, part) for f in sides[one]} & {getattr(f, part) for f in sides[other]}
    everything = [function for functions in sides.values() for function in functions]
    assert len(near_duplicates([function.sentence for function in everything])) == 0
    assert len(near_duplicates([function.source for function in everything])) == 0


def test_sources_are_short_and_do_not_hold_their_docstring(sides: dict[str, list[Function]]) -> None:
    for function in (function for functions in sides.values() for function in functions):
        assert function.sentence == " ".join(function.sentence.split())
        assert 15 <= len(function.sentence) <= 200
        assert function.source.startswith(("def ", "async def "))
        assert len(function.source.splitlines()) <= LINES
        assert f'"""{function.sentence}' not in function.source


def test_lists_hold_the_function_once_and_its_neighbours(sides: dict[str, list[Function]]) -> None:
    records = standard_library.lists(sides["dev"])
    sources = {function.source for function in sides["dev"]}
    for function, record in zip(sides["dev"], records, strict=True):
        documents = record["documents"]
        assert isinstance(documents, list)
        assert record["query"] == function.sentence
        assert len({document["content"] for document in documents}) == CANDIDATES
        assert {document["content"] for document in documents} <= sources
        assert [document["content"] for document in documents if document["label"]] == [function.source]


def test_neighbours_are_those_of_bm25(sides: dict[str, list[Function]]) -> None:
    queries, documents = [f.sentence for f in sides["dev"]], [f.source for f in sides["dev"]]
    words = [standard_library._words(document) for document in documents]
    oracle = BM25Plus(words, k1=standard_library.K1, b=standard_library.B, delta=0)
    holding = {word: sum(word in document for document in words) for word in oracle.idf}
    oracle.idf = {word: np.log1p((len(words) - count + 0.5) / (count + 0.5)) for word, count in holding.items()}
    ranked = standard_library._neighbours(queries, documents, CANDIDATES)
    for query, row in zip(queries, ranked, strict=True):
        scores = oracle.get_scores(sorted(set(standard_library._words(query))))
        np.testing.assert_allclose(scores[row], np.sort(scores)[::-1][:CANDIDATES], atol=1e-9)


def test_the_same_seed_writes_the_same_bytes(found: list[Function], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard_library, "functions", lambda root: list(found))  # reading it twice takes long
    first, second = standard_library.write(tmp_path / "one"), standard_library.write(tmp_path / "two")
    assert sorted(path.name for path in first.iterdir()) == ["dev.json", "test.json", "train.json"]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
    assert len(json.loads((first / "test.json").read_text(encoding="utf-8"))) == FUNCTIONS["test"]


def test_another_seed_deals_other_modules(found: list[Function], sides: dict[str, list[Function]]) -> None:
    other = standard_library.split(found, seed=7)
    assert {f.module for f in other["test"]} != {f.module for f in sides["test"]}


def test_a_library_without_sources_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too few sources"):
        standard_library.split(standard_library.functions(tmp_path))


def test_every_source_is_the_beginning_of_python(sides: dict[str, list[Function]]) -> None:
    whole = [f.source for f in sides["test"] if len(f.source.splitlines()) < LINES]
    assert len(whole) > 100
    for source in whole:
        ast.parse(source)
