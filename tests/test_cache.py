"""Where things are kept: as the environment says, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from homing.cache import cache_directory


def test_the_environment_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOMING_CACHE", str(tmp_path))
    assert cache_directory("bm25") == tmp_path / "bm25"
    assert not (tmp_path / "bm25").exists()
    monkeypatch.setenv("HOMING_CACHE", "off")
    assert cache_directory("bm25") is None
    monkeypatch.delenv("HOMING_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_directory("bm25") == tmp_path / "xdg" / "homing" / "bm25"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory("bm25") == Path.home() / ".cache" / "homing" / "bm25"
