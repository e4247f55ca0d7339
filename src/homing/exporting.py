"""Export a model as ONNX: tokens in, finished embeddings out, checked against the model itself before it is handed over."""

from __future__ import annotations

import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from homing.encoders.model import Model
from homing.encoders.safety import body
from homing.encoders.tokens import Tokens
from homing.errors import MergeError, ModelError, SettingError, first_line
from homing.manifest import demand_disk, replace_directory, write_json
from homing.shipping.layout import BODY_FILES, CONVENTION_FILES

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FILE = "model.onnx"
ALLOWED = 1e-5
LARGEST = 2**31 - 2**20  # bytes that one protobuf file holds; weights of larger models lie beside it
TEXTS = (
    "a",
    "list all files of the directory, sort them by size and count the lines of each",
    "保险合同成立后，投保人按照约定交付保险费，保险人按照约定的时间开始承担保险责任。",
    "how is a claim paid after an accident on the road?",
)


class _Embedding(nn.Module):
    """The whole pipeline: transformer, pooling, and what follows, scaled to length 1 where the model compares by the cosine."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.pipeline, self.unit = model.transformer, model.similarity == "cosine"

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        pooled: Tensor = self.pipeline({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]
        return nn.functional.normalize(pooled, dim=-1) if self.unit else pooled


def export(model: Model, out: str | Path, *, texts: Sequence[str] = ()) -> Path:
    """Write `model` as `model.onnx` with its tokenizer and conventions into the directory `out`; returns it.

    Inputs `input_ids` and `attention_mask`, int64 of shape (batch, length) for any batch and length; output `sentence_embedding`, float32
    of shape (batch, dimension), pooled and normalised as the model's directory says. Texts are tokenised with their prompt and cut to the
    length that `onnx.json` says, padded on the side that the tokenizer says. By torch's own exporter (`dynamo=True`).

    Texts are embedded by the file through onnxruntime, one at a time and together, and must equal the model's embeddings within 1e-5
    (of the largest number, where that is above 1).

    Raises SettingError where the packages for it are not installed, ModelError where the exporter cannot follow the model, MergeError where
    the file does not give the model's embeddings; `out` is then left as it was.
    """
    out = Path(out)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter needs it, and says so less clearly)
    except ImportError as error:
        raise SettingError("ONNX needs packages that are not installed", got=str(error), remedy="pip install 'homing[onnx]'") from None
    plain = model if (model.device.type, model.dtype) == ("cpu", torch.float32) else model.again("cpu", torch.float32)
    demand_disk(out, plain.parameters * torch.float32.itemsize)
    with replace_directory(out, FILE) as fresh:
        _write(plain, fresh / FILE)
        for name in (*BODY_FILES, *CONVENTION_FILES):
            source = body(plain.path) / name if name in BODY_FILES else plain.path / name
            if source.is_file():
                (fresh / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(source, fresh / name)
        session = onnxruntime.InferenceSession(fresh / FILE, providers=["CPUExecutionProvider"])
        distance = _verify(plain, session, [*TEXTS, *texts], where=str(out))
        del session
        told = {"inputs": ["input_ids", "attention_mask"], "output": "sentence_embedding", "distance": distance}
        write_json(fresh / "onnx.json", {**told, "max_length": plain.max_length, "prompts": plain.prompts})
    return out


def _write(model: Model, file: Path) -> None:
    ids = torch.randint(0, 100, (3, 7))
    free = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    try:
        with _quiet(), torch.inference_mode():
            program = torch.onnx.export(
                _Embedding(model).eval(), (ids, torch.ones_like(ids)), dynamo=True, verbose=False, dynamic_shapes=(free, free),
                input_names=["input_ids", "attention_mask"], output_names=["sentence_embedding"],
            )  # fmt: skip
            assert program is not None
            program.save(file, external_data=4 * model.parameters > LARGEST)
    except Exception as error:
        raise ModelError(
            "torch's exporter cannot follow the model", where=str(model.path),
            got=f"{type(error).__name__}: {first_line(error)}",
            remedy="Serve it with homing serve, vLLM or TEI instead.",
        ) from error  # fmt: skip


def _verify(model: Model, session: InferenceSession, texts: Sequence[str], where: str) -> float:
    """The largest difference of a number from the model's own embeddings, over their largest where that is above 1.

    Raises MergeError where it is too large.
    """
    worst = 0.0
    for kind in ("query", "document"):
        if kind == "document" and model.document_model is not None:
            continue
        tokens, wanted = model.tokenize(texts, kind), model.encode(texts, kind)
        together = run_session(session, model, tokens, range(len(texts)))
        alone = np.concatenate([run_session(session, model, tokens, [index]) for index in range(len(texts))])
        largest = max(1.0, float(np.abs(wanted).max()))  # of embeddings of any length, by which they round
        worst = max(worst, *(float(np.abs(each - wanted).max()) / largest for each in (together, alone)))
    if not worst <= ALLOWED:
        raise MergeError(
            "the exported model does not give the model's embeddings", where=where, got=f"a distance of {worst:.2e}",
            expected=f"at most {ALLOWED:g}", remedy="Nothing was written. Please report this with the model's name.",
        )  # fmt: skip
    return worst


def run_session(session: InferenceSession, model: Model, tokens: Tokens, texts: Sequence[int]) -> NDArray[np.float32]:
    """Embeddings of these texts by the exported model, as one padded batch; shape (texts, dimension)."""
    width, left = max(len(tokens[text]) for text in texts), model.transformer.tokenizer.padding_side == "left"
    ids = np.full((len(texts), width), model.transformer.tokenizer.pad_token_id or 0, dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, text in enumerate(texts):
        place = slice(width - len(tokens[text]), width) if left else slice(0, len(tokens[text]))
        ids[row, place], mask[row, place] = tokens[text], 1
    (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    embeddings: NDArray[np.float32] = found
    return embeddings


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter tells of its own steps."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
