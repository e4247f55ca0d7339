"""The verbs about servers."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import click

from homing.cli.verbs import make, settings, verb

KERNELS = "64"  # that oneDNN keeps, one for each layer's shape and number of tokens; its 1,024 take ever more memory
DIFFERS = 3  # an exit code of its own: a server that cannot be asked is 1
SPINS = "10000"  # turns that a thread of PyTorch waits awake for the next layer's work: some 0.2 ms


@settings("encoding", "serving")
@verb("homing serve model\nHOMING_API_KEY=... homing serve model --host 0.0.0.0 --port 8000")
@click.argument("model", type=str)
def serve(model: str, **options: Any) -> None:
    """Serve a model behind the OpenAI API's embeddings, with scores, probabilities and decisions beside them, until stopped.

    An adapter's directory is served on its base, not merged.
    """
    # Before torch. A thread that spins for long keeps the core that others are waited for on, one that sleeps at once is woken too late.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    from homing.encoders.opening import open_local
    from homing.serving import demand_address
    from homing.serving import serve as run

    chosen = make(options, "serving")
    demand_address(chosen)
    with ThreadPoolExecutor(1) as loading:  # as the server warms up apart
        opened = loading.submit(open_local, model, **asdict(make(options, "encoding"))).result()
    run(opened, chosen)


@settings("encoding", shown=("query_prompt", "document_prompt", "instruction", "max_length"))
@verb(
    "homing verify model --endpoint http://127.0.0.1:8000/v1\nhoming verify model --endpoint http://127.0.0.1:8000/v1#NAME --data data.json"
)
@click.argument("model", type=str)
@click.option("--endpoint", type=str, required=True, metavar="URL", help="the server, as URL or URL#MODEL (docs/verdict.md)")
@click.option("--documents", type=str, default=None, metavar="URL", help="where documents are embedded, if elsewhere")
@click.option("--data", type=str, default=None, metavar="DATA", help="send queries and documents of these [built-in texts]")
@click.option("--bare", is_flag=True, help="the server puts the prompts: send texts without")
@click.option("--tolerance", type=float, default=None, metavar="X", help="cosine distance a number format may cost [0.001]")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def verify(
    model: str, endpoint: str, documents: str | None, data: str | None, bare: bool, tolerance: float | None, as_json: bool, **options: Any
) -> None:
    """Compare a server with the model that it should serve: what it does otherwise is named, with the remedy. Exit code 3: it differs."""
    from homing.encoders.opening import open_local, open_sides
    from homing.loading import load
    from homing.verifying import verify as compare

    texts: dict[str, Any] = {} if tolerance is None else {"tolerance": tolerance}
    if data is not None:
        loaded = load(data)
        judged = loaded.qrels.queries[:32].tolist()
        places = list(dict.fromkeys(loaded.qrels.of(loaded.qrels.queries[:32]).document.tolist()))[:64]
        texts |= {"queries": [loaded.queries.texts[query] for query in judged], "documents": [loaded.corpus.texts[each] for each in places]}
    asked, elsewhere = open_sides(endpoint, documents)
    found = compare(open_local(model, **asdict(make(options, "encoding"))), asked, elsewhere, bare=bare, **texts)
    click.echo(json.dumps(found.plain(), indent=2, ensure_ascii=False) if as_json else str(found))
    sys.exit(0 if found.equal else DIFFERS)
