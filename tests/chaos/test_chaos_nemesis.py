"""What can go wrong, what a command may ask for, and that all of it is told in docs/chaos.md."""

from pathlib import Path

import pytest
from chaos_command import Round, command_of, main, table
from chaos_nemesis import FAULTS, Nemesis, chosen
from child.plants import PLANTS

PAGE = (Path(__file__).parents[2] / "docs" / "chaos.md").read_text()
ALL = {name for family in FAULTS.values() for name in family}


def test_every_fault_is_a_method_and_tells_what_it_does():
    for name in ALL:
        assert getattr(Nemesis, name).__doc__


def test_a_family_or_a_name_can_be_asked_for():
    assert set(chosen((), True, True)) == ALL
    assert set(chosen(("stop", "wipe", "ring"), True, True)) == {
        "stop_one",
        "stop_leader",
        "stop_majority",
        "wipe",
        "ring",
    }
    with pytest.raises(KeyError, match="nonsense"):
        chosen(("stop", "nonsense"), True, True)


def test_what_cannot_be_done_here_is_left_out():
    """Without a compiler no sync fails; without a mount, too, no disk fills up."""
    assert ALL - set(chosen((), False, True)) == set(FAULTS["disk"])
    assert ALL - set(chosen((), False, False)) == {*FAULTS["disk"], *FAULTS["full"]}


def test_the_page_tells_every_family_plant_and_option():
    for name in [*FAULTS, *PLANTS]:
        assert f"| `{name}` |" in PAGE
    for option in main.params:
        assert any(f"`{text}" in PAGE or f" {text}" in PAGE for text in option.opts), option.opts


def test_the_command_that_has_the_faults_again(monkeypatch):
    """The same options, but for what it names itself and the record."""
    monkeypatch.setattr(
        "sys.argv", ["run.py", "--groups", "1", "--seed", "1", "--record", "r", "--cluster=4", "--no-churn"]
    )
    assert command_of(Round(7, 2, 3)) == "python run.py --groups 1 --no-churn --seed 7 --cluster 2"


def test_sabotaged_and_void_rounds_are_no_evidence():
    """They stand in a record, and add nothing to the sums; but what is wrong in a void round is wrong."""
    sound = Round(1, 1, 1, seconds=60.0, calls=500, faults={"wipe": 2})
    void = Round(1, 1, 2, seconds=60.0, void="too little", faults={"wipe": 1}, violations=["x"])
    planted = Round(1, 1, 3, seconds=60.0, plant="votes-forgotten", violations=["y"], faults={"wipe": 4})
    told = table([sound, void, planted])
    for row in ("rounds | 1", "void rounds beside them | 1", "minutes | 1.0", "calls judged | 500", "`wipe` | 2"):
        assert f"| {row} |" in told
    assert "| **violations**, also in void rounds | 1 |" in told
