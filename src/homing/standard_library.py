"""Data for the demo, made on the spot: which function of Python's standard library does this sentence describe?

A query is the first sentence of a function's docstring, its one relevant document the function's source without the docstring. A query's
candidates are its document and the BM25 neighbours of the query among the functions of its own side. Sides share no module, so that the
test asks about modules that training has not seen. Files are parsed, never imported.
"""

from __future__ import annotations

import ast
import json
import re
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from homing.data import SIDES, Ints, Side
from homing.errors import InputError
from homing.texts.near import near_duplicates

# How much is taken: the demo should end within five minutes on two cores, and a side's functions are the documents of its lists.
FUNCTIONS: dict[Side, int] = {"train": 2000, "dev": 100, "test": 400}
A_MODULE = 40  # functions of one module at most, so that no side is one large package
CANDIDATES = 20  # documents a list
LINES = 12  # lines of source a document
SEED = 42

# Not the library itself, or a second writing of a module that is there.
SKIPPED = {"__phello__", "_pydecimal", "_pyio", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages"}
SKIPPED |= {"test", "tests", "turtledemo"}
K1, B = 1.5, 0.75


@dataclass(frozen=True)
class Function:
    """A function as the demo sees it: where it is, what its docstring says first, and its source without the docstring."""

    module: str
    name: str
    sentence: str
    source: str


def write(directory: Path, seed: int = SEED) -> Path:
    """Write train.json, dev.json and test.json, lists of judged candidates, into `directory` (made if missing); returns it.

    The same Python version and seed give the same bytes. Raises InputError where the standard library has no sources.
    """
    sides = split(functions(Path(sysconfig.get_paths()["stdlib"])), seed)
    directory.mkdir(parents=True, exist_ok=True)
    for side, chosen in sides.items():
        text = json.dumps(lists(chosen), ensure_ascii=False, indent=1)
        (directory / f"{side}.json").write_text(text + "\n", encoding="utf-8")
    return directory


def functions(root: Path) -> list[Function]:
    """Every usable function under `root`, in order of path and line; of near-equal sentences or sources only the first."""
    return _distinct(
        [function for path in sorted(root.rglob("*.py")) if not _skipped(path, root) for function in _functions_in(path, root)]
    )


def some_functions(root: Path, number: int) -> list[Function]:
    """Usable functions of files under `root`, drawn by the files' names until there are about as many; a tenth of the work for a few."""
    files = sorted(
        (path for path in root.rglob("*.py") if not _skipped(path, root)), key=lambda path: _draw(SEED, str(path.relative_to(root)))
    )
    found: list[Function] = []
    for path in files:
        found += list(_functions_in(path, root))[:A_MODULE]
        if len(found) >= number:
            break
    return _distinct(found[:number])


def _distinct(found: list[Function]) -> list[Function]:
    """Of near-equal sentences or sources only the first."""
    found = _without(found, near_duplicates([function.sentence for function in found]))
    return _without(found, near_duplicates([function.source for function in found]))


def split(found: Sequence[Function], seed: int = SEED) -> dict[Side, list[Function]]:
    """Deal whole modules to test, dev and train, in an order made of their names and the seed, until each side has its number.

    Raises InputError where there are too few functions for three sides.
    """
    modules: dict[str, list[Function]] = {}
    for function in found:
        modules.setdefault(function.module, []).append(function)
    names = sorted(modules, key=lambda name: _draw(seed, name))
    sides: dict[Side, list[Function]] = {}
    for side in reversed(SIDES):
        sides[side] = []
        while names and len(sides[side]) < FUNCTIONS[side]:
            module = modules[names.pop(0)]
            some = sorted(module, key=lambda function: _draw(seed, function.source))[:A_MODULE]
            sides[side] += some[: FUNCTIONS[side] - len(sides[side])]
    if any(len(sides[side]) < CANDIDATES for side in SIDES):
        raise InputError(
            "the standard library of this Python has too few sources for the demo",
            got=f"{len(found)} functions with a docstring",
            expected=f"about {sum(FUNCTIONS.values()):,}",
            remedy="Run the demo under a Python that is installed with its .py files.",
        )
    return {side: sides[side] for side in SIDES}


def lists(chosen: Sequence[Function]) -> list[dict[str, object]]:
    """The judged candidates of each function, best BM25 rank first; where its own document is not among them, it comes last."""
    records: list[dict[str, object]] = []
    for own, ranked in enumerate(_neighbours([f.sentence for f in chosen], [f.source for f in chosen], CANDIDATES).tolist()):
        candidates = ranked if own in ranked else [*ranked[:-1], own]
        documents = [{"content": chosen[position].source, "label": int(position == own)} for position in candidates]
        records.append({"query": chosen[own].sentence, "documents": documents})
    return records


def _skipped(path: Path, root: Path) -> bool:
    return any(part in SKIPPED or part.startswith("config-") for part in path.relative_to(root).with_suffix("").parts)


def _functions_in(path: Path, root: Path) -> Iterator[Function]:
    try:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings(action="ignore"):  # an old escape sequence in a string is no concern of this demo
            tree = ast.parse(text)
    except (OSError, SyntaxError, ValueError):
        return  # a file that this Python cannot read is no function of this demo
    module = path.relative_to(root).with_suffix("").parts[0].strip("_")
    lines = text.splitlines()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (sentence := _first_sentence(node)):
            source = _source(node, lines)
            if source:
                yield Function(module, node.name, sentence, source)


def _first_sentence(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The first sentence of the docstring on one line; empty where that is no sentence of four words and more."""
    paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.!?])\s", paragraph)[0]
    prose = len(re.findall(r"[A-Za-z]{2,}", sentence)) >= 4 and len(sentence) <= 200
    return sentence if prose and "->" not in sentence and not sentence.startswith(">>>") else ""


def _source(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """The first lines of the function without decorators and docstring; empty where nothing is done in it."""
    docstring, *body = node.body
    if docstring.lineno == node.lineno or not any(map(_does, body)):
        return ""
    kept = lines[node.lineno - 1 : docstring.lineno - 1] + lines[docstring.end_lineno : node.end_lineno]
    some = [line.rstrip() for line in kept if line.strip()][:LINES]
    return "\n".join(line[min(node.col_offset, len(line) - len(line.lstrip())) :] for line in some)


def _does(statement: ast.stmt) -> bool:
    bare = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return not bare and not isinstance(statement, ast.Pass | ast.Raise)


def _without(found: list[Function], pairs: Ints) -> list[Function]:
    """All but those that nearly equal an earlier one that stays."""
    gone: set[int] = set()
    for earlier, later in pairs.tolist():
        if earlier not in gone:
            gone.add(later)
    return [function for position, function in enumerate(found) if position not in gone]


def _draw(seed: int, text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8, key=str(seed).encode()).digest()


def _words(text: str) -> list[str]:
    """Lower-cased words; names are taken apart at underscores and digits."""
    return re.findall(r"[a-z]+", text.lower())


def _neighbours(queries: Sequence[str], documents: Sequence[str], top_k: int) -> NDArray[np.intp]:
    """The best documents of each query by BM25 over all documents, shape (queries, top_k); ties in the order of the documents."""
    vocabulary: dict[str, int] = {}
    tokens = [[vocabulary.setdefault(word, len(vocabulary)) for word in _words(text)] for text in documents]
    length = np.array([len(words) for words in tokens])
    row = np.repeat(np.arange(len(documents)), length)
    count = csr_array((np.ones(len(row)), (row, np.concatenate(tokens))), shape=(len(documents), len(vocabulary))).tocoo()
    holding = np.bincount(count.col, minlength=len(vocabulary))
    idf = np.log1p((len(documents) - holding + 0.5) / (holding + 0.5))
    saturated = count.data * (K1 + 1) / (count.data + K1 * (1 - B + B * length[count.row] / length.mean()))
    weight = csr_array((saturated * idf[count.col], (count.row, count.col)), shape=count.shape)
    asked = [sorted({vocabulary[word] for word in _words(text) if word in vocabulary}) for text in queries]
    one = np.repeat(np.arange(len(queries)), [len(words) for words in asked])
    question = csr_array((np.ones(len(one)), (one, [word for words in asked for word in words])), shape=(len(queries), len(vocabulary)))
    return np.argsort(-(question @ weight.T).toarray(), axis=1, kind="stable")[:, :top_k]
