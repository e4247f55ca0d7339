"""The verb that writes a model for other runtimes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from homing.cli.options import out_
from homing.cli.verbs import make, settings, verb


@settings("encoding")
@verb("homing export model --out model-onnx")
@click.argument("model", type=str)
@out_("model-onnx", "the directory to write")
def export(model: str, out: str, **options: Any) -> None:
    """Write a model as ONNX, pooling and normalisation included, checked against the model through onnxruntime."""
    from homing.encoders.model import Model
    from homing.exporting import export as write

    click.echo(f"the same embeddings; written to {write(Model(model, **asdict(make(options, 'encoding')), device='cpu'), Path(out))}")
