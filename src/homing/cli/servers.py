"""The verbs about servers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from homing.cli.options import make, settings, verb


@settings("encoding", "serving")
@verb("homing serve model\nHOMING_API_KEY=... homing serve model --host 0.0.0.0 --port 8000")
@click.argument("model", type=str)
def serve(model: str, **options: Any) -> None:
    """Serve a model behind the OpenAI API's embeddings, with scores, probabilities and decisions beside them, until stopped."""
    from homing.encoders.pair import open_model
    from homing.serving import serve as run

    chosen = make(options, "serving")
    run(open_model(model, **asdict(make(options, "encoding"))), chosen)
