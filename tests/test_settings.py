"""Settings: what no setting takes, whichever it is."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import homing
from homing import Mining, Model, Splitting, Training
from homing.errors import SettingError
from homing.training.train import resolved


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, "7", True, [1]])
@pytest.mark.parametrize("name", ["epochs", "minutes", "temperature", "margin", "rank"])
def test_a_number_is_a_finite_number(name: str, value: Any) -> None:
    flag = "lora-rank" if name == "rank" else name
    with pytest.raises(SettingError, match=f"--{flag} is no finite number; got"):
        Training(**{name: value})


def test_a_model_whose_embeddings_have_any_length_has_a_temperature_and_a_hardness_of_its_own(tiny_model: Path, tmp_path: Path) -> None:
    """Of length 1, inner products are cosines, whatever the model's directory calls them."""
    copy = Path(shutil.copytree(tiny_model, tmp_path / "dot"))
    said, modules = copy / "config_sentence_transformers.json", copy / "modules.json"
    assert resolved(Model(copy), Training()).temperature == 0.05
    assert resolved(Model(copy), Training()).hardness == 5.0
    said.write_text(json.dumps({**json.loads(said.read_text()), "similarity_fn_name": "dot"}))
    assert resolved(Model(copy), Training()).temperature == 0.05
    modules.write_text(json.dumps([each for each in json.loads(modules.read_text()) if not each["type"].endswith("Normalize")]))
    any_length = resolved(Model(copy), Training())
    assert (any_length.temperature, any_length.hardness) == (1.0, 0.25)
    assert resolved(Model(copy), Training(temperature=0.3)).temperature == 0.3
    assert resolved(Model(copy), Training(hardness=0.0)).hardness == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dimensions", 256),
        ("dimensions", [256, 128]),
        ("dimensions", None),
        ("epochs", None),
        ("report_to", ["tensorboard"]),
        ("in_batch", "no"),
    ],
)
def test_text_is_text_and_a_switch_is_one(name: str, value: Any) -> None:
    with pytest.raises(SettingError, match=f"--{name.replace('_', '-')} is of another kind; got"):
        Training(**{name: value})


def test_dimensions_are_numbers_that_python_reads() -> None:
    with pytest.raises(SettingError, match="--dimensions is out of range; got '²'"):
        Training(dimensions="²")


@pytest.mark.parametrize("name", ["rank", "batch_size", "evaluations", "seed"])
def test_what_counts_is_a_whole_number(name: str) -> None:
    flag = "lora-rank" if name == "rank" else name.replace("_", "-")
    with pytest.raises(SettingError, match=f"--{flag} is no whole number; got 2.5"):
        Training(**{name: 2.5})


def test_no_negatives_may_be_asked_for_alone_and_some_again_after_it() -> None:
    """A recipe that asked for none, and a flag that asks for three: one of them is hard, as ever."""
    assert replace(Mining(negatives=0), negatives=3) == Mining()
    for negatives in (0, 1):
        with pytest.raises(SettingError, match="--hard-negatives is out of range"):
            Mining(negatives=negatives, hard=2)
    with pytest.raises(SettingError, match="--medium-negatives is out of range"):
        Mining(negatives=0, medium=1)


@pytest.mark.parametrize("seed", [-1, 1 << 63])
def test_a_seed_is_one_that_every_generator_takes(seed: int) -> None:
    for settings in (Training, Mining, Splitting):
        with pytest.raises(SettingError, match=f"--seed is out of range; got {seed}"):
            settings(seed=seed)


def test_numbers_of_numpy_and_none_are_taken() -> None:
    """As Python's own, which JSON holds; a whole number for any is that."""
    said = Training(rank=np.int64(4), epochs=np.float32(0.5), minutes=None)
    assert json.dumps(asdict(said)) == json.dumps(asdict(Training(rank=4, epochs=0.5)))
    assert json.dumps(asdict(Training(epochs=3))) == json.dumps(asdict(Training(epochs=3.0)))
    assert Mining(negatives=np.int32(2)).negatives == 2


@pytest.mark.parametrize("dimensions", ["9999", "32,65", "0"])
def test_dimensions_are_the_models(tiny_model: Path, dimensions: str) -> None:
    with pytest.raises(SettingError, match=f"got {dimensions}; expected each from 1 to 64"):
        resolved(Model(tiny_model), Training(dimensions=dimensions))
    assert resolved(Model(tiny_model), Training(dimensions="64,32")).dimensions == "64,32"


@pytest.mark.parametrize("kind", ["query", "document"])
def test_a_prompt_that_fills_the_length_is_an_error(tiny_model: Path, kind: str) -> None:
    prompts = {"query_prompt": "", "document_prompt": "", f"{kind}_prompt": "one two " * 20}
    with pytest.raises(SettingError, match=f"no room for a {kind}; .*of 16"):
        resolved(Model(tiny_model, max_length=16, **prompts), Training())


class Elsewhere:
    """An encoder of another library: it has `encode` and says nothing of its prompts or its similarity."""

    def encode(self, sentences: list[str]) -> None: ...


class Undigested(Elsewhere):
    """An encoder of one's own that says everything but a digest of each side, which the measuring asks for."""

    name, digest, dimension, similarity = "own", "1", 4, "dot"
    prompts: ClassVar[dict[str, str]] = {"query": "", "document": ""}


def test_what_is_of_another_kind_than_what_belongs_there_is_told_how_to_come_by_that(tiny_model: Path, made: Path) -> None:
    data, model = homing.load(made), Model(tiny_model)
    splits = homing.split(data)
    train, dev, test = splits
    mined = homing.mine(train)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: homing.load(None), "path is .*got None; expected a path"),
        (lambda: homing.check(made), "data is .*got '.*; expected Dataset or Splits.\nhoming.load"),
        (lambda: homing.split(made), "data is .*got '.*; expected Dataset.\nhoming.load"),
        (lambda: homing.mine(splits), "train is .*got Splits; expected Dataset.\nhoming.load.*homing.split"),
        (lambda: homing.mine(train, {"negatives": 3}), "settings is .*got dict; expected Mining.\nhoming.Mining"),
        (lambda: homing.mine(train, encoder=str(tiny_model)), "encoder is .*; expected an encoder.\nhoming.Model"),
        (lambda: Model(None), "path is .*got None; expected a path"),
        (lambda: homing.open_model(""), "path is .*got ''; expected a path"),
        (lambda: homing.Adapter(None), "path is .*got None"),
        (lambda: homing.train(str(tiny_model), mined, dev), "base is .*got '.*; expected Model.\nhoming.Model"),
        (lambda: homing.train(model, train, dev), "mined is .*got Dataset; expected Mined.\nhoming.mine"),
        (lambda: homing.train(model, mined, made), "dev is .*got '.*; expected Dataset"),
        (lambda: homing.merge(model, "adapter"), "adapter is .*got 'adapter'; expected Adapter.\nhoming.train"),
        (lambda: homing.evaluate(model, dev, test), "models is .*got Model; expected list or tuple.\nPut them into a list"),
        (lambda: homing.evaluate([str(tiny_model)], dev, test), r"models\[0\] is .*got '.*; expected an encoder.\nhoming.Model"),
        (lambda: homing.evaluate([model], dev, None), "test is .*got None; expected Dataset"),
        (
            lambda: homing.evaluate([model], dev, test, groups=np.arange(2)),
            r"groups are .*got groups of shape \(2,\); .*\nGive those of the split",
        ),
        (lambda: homing.evaluate([model], dev, test, groups="by topic"), r"groups are .*got groups of shape \(\); "),
        (lambda: homing.compare([model]), r"evaluations\[0\] is .*got Model; expected Evaluation.\nhoming.evaluate"),
        (lambda: homing.report("evaluation", out="report.html"), r"evaluations\[0\] is .*got 'evaluation'; expected Evaluation"),
        (lambda: homing.run("recipe.toml", "run"), "recipe is .*got 'recipe.toml'; expected Recipe.\nhoming.Recipe"),
        (lambda: homing.serve(tiny_model), "encoder is .*; expected Model or Pair.\nhoming.Model"),
        (lambda: model.encode([None]), r"texts\[0\] is .*got None; expected a text"),
        (lambda: model.encode(["one", b"two"]), r"texts\[1\] is .*got bytes; expected a text"),
        (lambda: model.encode(["one", "half of \ud83d"]), r"texts\[1\] holds half a character; got the lone surrogate \\ud83d"),
    ]
    (words,) = homing.evaluate([], dev, test, homing.Evaluating(resamples=100))
    table = {"query": ["one"], "document": ["two"]}
    calls += [
        (lambda: homing.load(table), "path is .*got dict; expected a path.*\nWhat is in memory is written to a file first"),
        (lambda: homing.load(np.zeros(2)), "path is .*got ndarray; expected a path.*\nWhat is in memory"),
        (lambda: homing.load(made, corpus=["one", "two"]), "corpus is .*got list; expected a path"),
        (lambda: homing.check(splits, str(tiny_model)), "tokenizer is .*got str; .*\nGive the model: homing.check"),
        (lambda: homing.check(splits, model, max_length=0), "max_length is out of range; got 0"),
        (lambda: homing.check(splits, max_length=128), "max_length is given, and nothing that counts tokens"),
        (lambda: homing.check(splits, by="texts"), "by is none of the ways to split; got 'texts'"),
        (lambda: homing.split(data, seed=1.5), "--seed is no whole number; got 1.5"),
        (lambda: homing.mine(train, encoder=Elsewhere()), "encoder is .*got Elsewhere; expected an encoder.\nhoming.Model"),
        (lambda: homing.evaluate([Elsewhere()], dev, test), r"models\[0\] is .*got Elsewhere; expected an encoder.\nhoming.Model"),
        (lambda: homing.evaluate([Undigested()], dev, test), r"models\[0\] is .*got Undigested; expected an encoder"),
        (lambda: homing.train(model, mined, dev, teacher=model), "teacher is .*got Model; expected a teacher.\nhoming.training.teacher"),
        (lambda: homing.train(model, mined, dev, out=None), "out is .*got None; expected a path"),
        (lambda: homing.compare([]), "there is nothing to compare"),
        (lambda: homing.report(words, out="report.html", settings="zh"), "settings is .*got 'zh'; expected Reporting.\nhoming.Reporting"),
        (lambda: homing.report(words, out="report.html", verdict="gained"), "verdict is .*; expected Verdict.\nhoming.compare"),
        (lambda: Model(tiny_model, dtype="float32"), "dtype is .*got 'float32'; expected dtype.\nIt is torch's: torch.float32"),
        (lambda: homing.Pair(str(tiny_model), model), "queries is .*; expected Model"),
        (lambda: homing.serve(model, 8000), "settings is .*got int; expected Serving"),
        (lambda: homing.Recipe(table, "model"), "data is .*got dict; expected a path"),
        (lambda: homing.Recipe("data.json", model), "model is .*got Model; expected a path"),
        (lambda: homing.Recipe("data.json", "model", judgments="marked.csv"), "judgments is .*; expected tuple or list.\nPut"),
        (lambda: homing.Recipe("data.json", "model", training={"epochs": 1}), "training is .*got dict; expected Training"),
        (lambda: Model(tiny_model, device="gpu"), "there is no such device; got 'gpu'; expected .*\nLeave it out"),
        (lambda: model.encode(None), "texts is .*got None; expected a list of texts"),
        (lambda: model.encode(text for text in ["one"]), "texts is .*got generator; expected a list of texts.\nPut the texts into a list"),
        (lambda: model.encode(table), "texts is .*got dict; expected a list of texts"),
        (lambda: model.encode(np.array([["one", "two"]])), "texts is .*got ndarray; expected a list of texts"),
        (lambda: model.fit(train.corpus), "texts is .*got Corpus; expected a list of texts.\n.*corpus.texts"),
        (lambda: model.fit(["one", "two"]).search("one", top_k=0), "top_k is out of range; got 0"),
        (lambda: model.score("one", 2), "no such document; got 2; expected an index below 2"),
    ]
    for call, told in calls:
        with pytest.raises(SettingError, match=told):
            call()
    assert model.encode(np.array(["one", "two"])).shape == (2, model.dimension)
    with pytest.raises(SettingError, match="Put it into a list"):
        model.encode("one text", "query")
    with pytest.raises(SettingError, match="'query' or 'document'"):
        model.encode(["one text"], "queries")  # type: ignore[arg-type]
