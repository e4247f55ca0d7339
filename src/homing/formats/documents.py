"""A corpus by itself, beside pairs: the documents that negatives are mined from and that evaluation searches.

JSON, JSONL, CSV, Parquet or a spreadsheet with a `text` (or `content`, `document`, `passage`; 内容, 正文, 文档), after its `title` (标题)
where it has one; or a `.txt` file of one document a line. Ids are left aside: a document of the pairs and one of the corpus with the same
text are one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from homing.builder import Builder
from homing.errors import FormatError
from homing.formats import files
from homing.formats.fields import keys, text_field, titled, undecodable, unreadable
from homing.formats.headers import DOCUMENT
from homing.formats.records import records

TEXT = ("text", "content", "document", "passage", *DOCUMENT)


def read(path: Path, into: Builder) -> None:
    """Read every document into `into`; empty ones are counted in `notes["empty_documents"]`.

    Raises FormatError at the first that is wrong.
    """
    plain = path.name.lower().removesuffix(files.ENDING).endswith(".txt")
    for text in _lines(path) if plain else (_text(record.value, record.where) for record in records(path, into.notes)):
        if text.strip():
            into.document(text)
        else:
            into.notes["empty_documents"] += 1


def _lines(path: Path) -> Iterator[str]:
    offset = lines = 0
    try:
        with files.opened(path) as file:
            for line in file:
                yield line.decode().removeprefix("\ufeff")
                offset, lines = offset + len(line), lines + 1
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise undecodable(error, path, offset=offset, lines=lines) from None


def _text(record: dict[str, object], where: str) -> str:
    name = next((name for name in TEXT if name in record), None)
    if name is None:
        raise FormatError(
            "a document has no text", where=where, got=f"the keys {keys(record)}", expected=" or ".join(map(repr, TEXT)),
            remedy="Rename the key, or give a .txt file of one document a line.",
        )  # fmt: skip
    return titled(record, text_field(record[name], name, where) if record[name] else "", where)
