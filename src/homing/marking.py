"""The page on which a person marks audited negatives: one HTML file that needs a browser, no server and no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from homing.data import digest, text_id
from homing.manifest import replaced
from homing.suspects import Suspects


def marking_page(suspects: Suspects, out: Path | str) -> Path:
    """Write the page to `out` and return its path. Same suspects, same bytes; the file appears whole or not at all.

    Marks stay in the browser's storage under the digest of what is asked; "Save" hands them over as JSONL (`formats.judgments`).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    world = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "template"), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    path, told = Path(out), _told(suspects)
    page = world.get_template("marking.html.j2").render(told=_embedded(told))
    with replaced(path, "wb") as file:
        file.write(page.encode("utf-8", "replace"))
    return path


def _told(suspects: Suspects) -> dict[str, Any]:
    data, items = suspects.data, []
    columns = suspects.query.tolist(), suspects.positive.tolist(), suspects.negative.tolist()
    for number, (query, positive, negative) in enumerate(zip(*columns, strict=True)):
        asked, told = data.queries.texts[query], data.corpus.texts[negative]
        both = zip(suspects.score[number].tolist(), suspects.rival[number].tolist(), strict=True)
        items.append(
            {
                "query": asked, "positive": data.corpus.texts[positive], "negative": told,
                "query_id": data.queries.ids[query], "document_id": data.corpus.ids[negative],
                "query_digest": text_id("q", asked), "document_digest": text_id("d", told),
                "near": int(suspects.near[number]), "judged": bool(suspects.judged[number]),
                "scores": [[round(each, 4) for each in pair] for pair in both],
            }
        )  # fmt: skip
    asked_about = digest([part for each in items for part in (each["query_digest"], each["document_digest"])])
    return {"audit": asked_about, "side": suspects.side, "models": list(suspects.models), "of": suspects.of, "items": items}


def _embedded(told: dict[str, Any]) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element or a line of JavaScript."""
    text = json.dumps(told, ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
