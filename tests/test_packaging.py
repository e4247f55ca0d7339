"""The package as it is handed over: light to import, typed, its versions agreeing, its documents true."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import homing
from homing.cli import cli
from homing.formats import detect
from tiny import made_data

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
MODEL = "Qwen/Qwen3-Embedding-0.6B"
HEAVY = ("torch", "transformers", "sentence_transformers", "peft", "matplotlib", "pyarrow")


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


COMMANDS = [line for block in blocks(ENGLISH, "bash") for line in block.splitlines() if line.startswith("homing ")]


@pytest.mark.parametrize("code", ["import homing", "from homing.cli import main; main(['--help'])", "import homing.settings, homing.data"])
def test_torch_is_not_loaded_before_it_is_needed(code: str) -> None:
    told = f"{code}\nimport sys\nprint('LOADED', *[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "LOADED"


def test_every_public_name_is_there() -> None:
    for name in homing.__all__:
        assert getattr(homing, name) is not None
        assert re.search(rf"\b{name}\b", str(homing.__doc__)), name
    kinds = [each.default_factory for each in fields(homing.Recipe) if each.name in homing.Recipe.SECTIONS]
    assert {kind.__name__ for kind in kinds} < set(homing.__all__)  # a recipe can be made with what is public alone
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = homing.nothing


def test_the_package_is_typed_and_versioned() -> None:
    assert (Path(homing.__file__).parent / "py.typed").is_file()
    assert homing.__version__ == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_constraints_pin_every_direct_dependency_within_its_range() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if not line.startswith("#")}
    assert "+" not in "".join(pins.values())  # a local version label is on no index
    extras = [text for extra in PROJECT["optional-dependencies"].values() for text in extra if not text.startswith("homing")]
    assert "triton" not in pins  # PyTorch for CUDA pins the one that it was built with
    for wanted in map(Requirement, PROJECT["dependencies"] + extras):
        assert wanted.name == "triton" or wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), wanted


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("target", ["help", "setup", "demo", "test", "check", "clean"])
def test_makefile_has_the_target(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text(encoding="utf-8").splitlines()[-1] == "make test"


def test_both_readmes_say_the_same() -> None:
    def headings(text: str) -> list[str]:
        return re.findall(r"^#+(?= )", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE)

    def rows(text: str) -> list[str]:
        return [line.split("|")[1] for line in text.splitlines() if line.startswith("| `") or re.match(r"\| \d", line)]

    assert headings(ENGLISH) == headings(CHINESE)
    assert rows(ENGLISH) == rows(CHINESE)
    for language in ("bash", "python", "json"):
        assert blocks(ENGLISH, language) == blocks(CHINESE, language)
    assert ENGLISH.count("\n- ") == CHINESE.count("\n- ")


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_verbs_and_flags_of_the_readme_exist(text: str) -> None:
    for line in COMMANDS:
        verb, *rest = shlex.split(line)[1:]
        options = {option for parameter in cli.commands[verb].params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= options, line
    spoken = set(re.findall(r"`homing ([a-z]+)", text)) | set(re.findall(r"^\| `([a-z]+)` \|", text, flags=re.MULTILINE))
    assert spoken <= set(cli.commands)
    known = {option for command in cli.commands.values() for each in command.params for option in (*each.opts, *each.secondary_opts)}
    known |= {"--help", "--index-url"}
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= known


def test_links_of_the_documents_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert link.startswith("http") or (path.parent / link).exists(), f"{path.name}: {link}"


def test_examples_of_the_formats_are_read(tmp_path: Path) -> None:
    candidates, rows = blocks(ENGLISH, "json")
    for name, text in (("candidates", candidates), ("rows", rows)):
        path = tmp_path / f"{name}.json"
        path.write_text(text, encoding="utf-8")
        assert detect(path) == name
        data = homing.load(path)
        assert data.qrels.relevance.tolist() == [1, 0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in, with the data.json that the README speaks of."""
    made_data(tmp_path).rename(tmp_path / "data.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_commands_of_the_readme_run_as_written(here: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from homing.cli import main

    assert len(COMMANDS) > 8
    for line in COMMANDS:
        main(shlex.split(line.replace(MODEL, str(tiny_model)))[1:])
        assert capsys.readouterr().out, line
    left = set(re.findall(r"^\| `([^`]+)` \|", ENGLISH.split("## What a run leaves")[1].split("\n## ")[0], flags=re.MULTILINE))
    assert left == {path.name + "/" * path.is_dir() for path in (here / "runs" / "insurance").iterdir() if path.name != ".lock"}
    assert json.loads((here / "evaluation" / "metrics.json").read_text(encoding="utf-8"))


def test_python_of_the_readme_runs_as_written(here: Path, tiny_model: Path) -> None:
    (code,) = blocks(ENGLISH, "python")
    names: dict[str, object] = {}
    exec(compile(code.replace(MODEL, str(tiny_model)), "README.md", "exec"), names)
    assert (here / "report.html").stat().st_size > 10_000
    tuned = names["tuned"]
    assert isinstance(tuned, homing.Model)
    tuned.fit(["hail and storm", "premiums are due"])
    found = tuned.search("hail", top_k=2)
    assert found[0][1] >= found[1][1]
    assert tuned.score("hail", found[0][0]) == pytest.approx(found[0][1], abs=1e-5)
