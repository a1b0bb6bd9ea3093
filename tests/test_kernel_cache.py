"""Compiled loops are kept apart for each version of the sources they were made from."""

from __future__ import annotations

import shutil
from pathlib import Path

from numba import config

import risk.liquidation.cache as room
from risk.liquidation.kernel import walk_cells


def folder_of(file: Path, monkeypatch) -> str:
    """Where the loops of a copy of the room would be kept."""
    monkeypatch.setattr(room, "__file__", str(file))
    with room.own_cache():
        return config.CACHE_DIR


def test_an_edited_rule_is_compiled_again_everywhere(tmp_path, monkeypatch):
    copy = tmp_path / "liquidation"
    shutil.copytree(Path(room.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = folder_of(copy / "cache.py", monkeypatch)
    assert before == folder_of(copy / "cache.py", monkeypatch)
    for name in ("steps.py", "tails/trees.py"):
        (copy / name).write_text((copy / name).read_text() + "\n")
        after = folder_of(copy / "cache.py", monkeypatch)
        assert after != before
        before = after


def test_the_setting_of_other_rooms_is_left_alone(monkeypatch):
    here = config.CACHE_DIR
    with room.own_cache():
        assert here != config.CACHE_DIR
    assert here == config.CACHE_DIR


def test_the_walk_is_kept_in_the_room_of_its_own_version():
    with room.own_cache():
        folder = config.CACHE_DIR
    assert walk_cells.stats.cache_path.startswith(folder)
