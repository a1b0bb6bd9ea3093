"""What the pages name is there: files, commands, make targets, schemas, modules."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from risk import commands, schema
from risk.config import (
    Accounts,
    Carry,
    Cascade,
    Config,
    Cross,
    Historical,
    Impact,
    Margin,
    Measures,
    MonteCarlo,
    Stress,
)

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]


@pytest.fixture(params=PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def page(request):
    return request.param


def test_every_link_to_a_file_of_ours_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    lost = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert lost == []


def test_every_command_and_target_exists(page):
    text = page.read_text()
    shown = re.findall(r"(?:`|bin/)bulkhead ([a-z]+)", text)
    assert set(shown) <= set(commands.__all__)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", text, re.MULTILINE)) <= targets


def test_every_schema_and_module_the_pages_print_exists(page):
    text = page.read_text()
    for name in re.findall(r"```\{schema\} (\w+)", text):
        assert hasattr(schema, name), name
    for name in re.findall(r"automodule:: ([\w.]+)", text):
        importlib.import_module(name)


def test_every_key_of_the_config_is_explained():
    text = (ROOT / "docs/config.md").read_text()
    models = (
        Config, Historical, MonteCarlo, Stress, Measures, Margin, Accounts, Cross, Impact, Cascade,
        Carry,
    )  # fmt: skip
    keys = {name for model in models for name in model.model_fields}
    keys -= {
        "scenarios",
        "measures",
        "margin",
        "liquidation",
        "accounts",
        "cross",
    }  # their own keys stand there
    assert sorted(key for key in keys if not re.search(rf"[`.]{key}`", text)) == []


def test_the_readme_starts_with_the_two_commands():
    screen = (ROOT / "README.md").read_text().splitlines()[:14]
    assert any(line.startswith("    make run ") for line in screen)
    assert any(line.startswith("    make test ") for line in screen)
