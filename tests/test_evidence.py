"""docs/evidence.md names a test for every rule, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "evidence.md").read_text()

RULES = {
    "Scenarios": set(range(1, 56)),
    "Hazards": {*range(1, 38), *range(40, 47)},
}
"""Title of a table → the items that it must have."""


@cache
def table(title: str) -> dict[str, str]:
    """Item → last cell, of the table under a heading."""
    section = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    items = [(row[0], row[-1]) for row in rows[2:]]
    assert len(dict(items)) == len(items), "an item stands there twice"
    return dict(items)


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the test functions of a module, which is not imported."""
    if not path.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions))


@pytest.mark.parametrize("title", RULES)
def test_every_item_has_its_tests(title: str) -> None:
    assert {int(item) for item in table(title)} == RULES[title]
    for item, cell in table(title).items():
        assert re.fullmatch(r"`[\w/]+\.py::test_\w+`( · `[\w/]+\.py::test_\w+`)*", cell), f"item {item}: {cell}"


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 100
    missing = [f"{path}::{name}" for path, name in named if name not in names_in(TESTS / path)]
    assert missing == []


def test_what_is_not_shown_yet_is_part_of_an_item() -> None:
    for item in table("Not shown yet"):
        kind, _, number = item.partition(" ")
        assert number in table(f"{kind.capitalize()}s")


def test_every_part_of_the_labs_is_told() -> None:
    """One file per part."""
    for path in (TESTS / "scenarios").glob("test_*_[0-9][a-d].py"):
        assert path.name in PAGE
