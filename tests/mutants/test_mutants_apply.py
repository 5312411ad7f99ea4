"""The list of mutants is whole: each applies, says what it is, and every hazard has one. The hunt itself is a command.

What the hunt found stands in docs/mutants.md; ``hunt.py`` writes it.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import hunt
import mutant_table
import pytest
from mutant_list import (
    REPLACED,
    ROOT,
    SIMULATION,
    BadPatch,
    Mutant,
    all_mutants,
    apply,
    by_hazard,
    copy_tree,
    patched_files,
    read_mutant,
)

MUTANTS = all_mutants()
CORE = {*range(1, 38), *range(40, 47)}
"""Hazards of the core; 38 and 39 come with changes of voters."""
LEAST = {"election": 12, "replication": 12, "reads": 6, "storage": 6, "snapshots": 6, "sessions": 6, "migration": 12}

ONE = """Name: election-odd
Area: election
Breaks: Something that goes on
  in a second line.
Hazards: 1, 22, S3.2, S14
Plan: crashes, everything
Expect: simulation

--- a/twisted_kv/codec.py
+++ b/twisted_kv/codec.py
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tree")
    copy_tree(path)
    return path


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_patch_applies_and_changes_the_package_alone(mutant: Mutant, tree: Path) -> None:
    files = patched_files(mutant)
    before = {file: (tree / file).read_text() for file in files}
    try:
        assert apply(mutant, tree) == ""
        for file in files:
            after = (tree / file).read_text()
            assert file.startswith("twisted_kv/") and "simulation/" not in file
            assert after != before[file]
            ast.parse(after)
    finally:
        for file, text in before.items():
            (tree / file).write_text(text)


def test_a_patch_that_does_not_apply_says_so(tmp_path: Path, tree: Path) -> None:
    path = tmp_path / "election-odd.patch"
    path.write_text(ONE + "@@ -1,1 +1,1 @@\n-what never stood there\n+what never will\n")
    assert "patch does not apply" in apply(read_mutant(path), tree)


def test_there_are_enough_of_every_kind() -> None:
    count = Counter(mutant.area for mutant in MUTANTS)
    assert len(MUTANTS) >= 75
    assert {area: count[area] for area in LEAST if count[area] < LEAST[area]} == {}


def test_every_hazard_of_the_core_has_its_mutants() -> None:
    assert CORE - set(by_hazard(MUTANTS)) == set()


def test_every_directed_test_is_there() -> None:
    missing = []
    for mutant in MUTANTS:
        if mutant.directed:
            file, _, name = mutant.directed.partition("::")
            functions = ast.parse((ROOT / file).read_text()).body if (ROOT / file).is_file() else []
            if name not in {getattr(function, "name", "") for function in functions}:
                missing.append(f"{mutant.name}: {mutant.directed}")
    assert missing == []


def test_what_was_replaced_is_told_with_its_reason() -> None:
    text = REPLACED.read_text()
    rows = [[cell.strip(" `") for cell in line.split("|")] for line in text.splitlines() if line.startswith("| `")]
    names = {mutant.name for mutant in MUTANTS}
    assert {mutant.replaces for mutant in MUTANTS if mutant.replaces} == {row[1] for row in rows}
    for _, gone, successor, why, _ in rows:
        assert gone not in names and successor in names and len(why) > 40


def test_the_page_tells_the_truth_about_its_mutants() -> None:
    """Who was hunted is there under its own words, and the sums are what the rows say."""
    rows = mutant_table.rows_of_page()
    text = mutant_table.PAGE.read_text()
    assert set(rows) <= {mutant.name for mutant in MUTANTS}
    assert mutant_table.summary(rows, MUTANTS) in text
    assert mutant_table.hazards(MUTANTS) in text
    for mutant in MUTANTS:
        assert mutant.name not in rows or mutant.breaks.removesuffix(".").replace("|", "∣") in rows[mutant.name]


def test_every_mutant_is_caught_and_nine_in_ten_by_simulation_within_a_thousand_lives() -> None:
    rows = mutant_table.rows_of_page()
    assert {mutant.name for mutant in MUTANTS} == set(rows)
    lives = {name: mutant_table.lives(name) for name in rows}
    by_simulation = [name for name, needed in lives.items() if 0 < needed <= 1000]
    assert len(by_simulation) >= 0.9 * len(MUTANTS)
    assert [name for name, row in rows.items() if not lives[name] and "::test_" not in row] == []


def test_a_header_is_read(tmp_path: Path) -> None:
    path = tmp_path / "election-odd.patch"
    path.write_text(ONE)
    mutant = read_mutant(path)
    assert mutant.breaks == "Something that goes on in a second line."
    assert (mutant.hazards, mutant.scenarios) == ((1, 22), ("2", "14"))
    assert (mutant.plans, mutant.expect, mutant.directed) == (("crashes", "everything"), SIMULATION, "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Name: election-odd", "Name: another"),
        ("Area: election", "Area: attic"),
        ("Plan: crashes, everything\n", ""),
        ("Hazards: 1,", "Hazards: one,"),
        ("Expect: simulation", "Expect: luck"),
        ("Area: election", "Area: election\nArea: election"),
        ("Area: election", "Aria: election"),
        ("\n\n---", "\n---"),
    ],
)
def test_a_header_that_says_something_else_is_refused(old: str, new: str, tmp_path: Path) -> None:
    path = tmp_path / "election-odd.patch"
    path.write_text(ONE.replace(old, new))
    with pytest.raises(BadPatch):
        read_mutant(path)


def test_verdicts_are_kept_and_survivors_hunted_on(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    caught = hunt.Verdict("a", "11", hunt.CAUGHT, 3, "crashes", 3, "one leader per term")
    alive = hunt.Verdict("b", "22", hunt.SURVIVED, 20)
    path.write_text("".join(hunt.line_of(verdict) for verdict in (alive, caught)))
    assert hunt.recorded(path) == {"11": caught, "22": alive}
    assert hunt.is_done(caught, 1000)
    assert hunt.is_done(alive, 20)
    assert not hunt.is_done(alive, 21)
    assert not hunt.is_done(None, 1)


@pytest.mark.slow
def test_the_hunt_catches_what_is_plain_and_tells_what_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One by simulation, one by its directed test; each by the checker and the test that were made for it."""
    results = tmp_path / "results.jsonl"
    names = ["corridor-mail-before-the-save", "storage-directory-is-not-locked"]
    assert hunt.main([*names, "--seeds", "2", "--results", str(results)]) == 0
    told = {verdict.name: verdict for verdict in hunt.recorded(results).values()}
    assert told[names[0]].verdict == hunt.CAUGHT and told[names[0]].by.startswith("saved before said")
    assert told[names[1]].verdict == hunt.DIRECTED and told[names[1]].by.endswith("has_one_owner")
    assert hunt.main([*names, "--seeds", "2", "--results", str(results)]) == 0
    assert "0 of them still to be hunted" in capsys.readouterr().out


def test_a_handful_is_drawn_from_the_quick_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others each day, the same for the same seed; and never nothing, which would be green."""
    quick = {mutant.name for mutant in MUTANTS[:9]}
    monkeypatch.setattr(mutant_table, "lives", lambda name: 5 if name in quick else 6)
    drawn = [{mutant.name for mutant in hunt.rotated(6, 20, seed)} for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(names) == 6 and names <= quick for names in drawn)
    monkeypatch.setattr(mutant_table, "lives", lambda name: 0)
    with pytest.raises(SystemExit):
        hunt.rotated(6, 20, 1)


def test_an_unknown_mutant_is_refused() -> None:
    with pytest.raises(SystemExit, match="no mutant election-nowhere"):
        hunt.main(["election-nowhere"])
