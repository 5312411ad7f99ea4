"""Tables, JSON and what is drawn, of a run that never was."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.children import Children
from benchmarks.figures import Sample, sample_of
from benchmarks.machine import Machine
from benchmarks.peers.peer import Missing, Peer
from benchmarks.plot import bars, draw
from benchmarks.report import Report, Table
from benchmarks.rounds import Plan, Record
from benchmarks.tasks import Outcome, Task, rows_of


class Told(Peer):
    """A system of which only is told: a report starts nothing."""

    def prepare(self, directory: Path) -> str:
        return pytest.fail("a report prepares nothing")

    def start(self, children: Children, directory: Path) -> None:
        pytest.fail("a report starts nothing")

    def load(self, task: Task) -> list[str]:
        return pytest.fail("a report loads nothing")

    def endpoints(self) -> tuple[str, ...]:
        return ()


class Ours(Told):
    name: ClassVar[str] = "ours"
    title: ClassVar[str] = "Ours"
    promises: ClassVar[str] = "much"


class Etcd(Told):
    name: ClassVar[str] = "etcd"
    title: ClassVar[str] = "etcd"
    promises: ClassVar[str] = "much, too"


def sample(system: str, row: str, number: int, rate: int) -> Sample:
    return sample_of(
        system, row, number, Outcome(1.0, 0.1, [2000] * rate), {"one": 0.05, "leader": 0.2, "other": 0.05}, 0.5
    )


def report(others: float = 0.0, file_system: str = "ext4 (rw)", peers: tuple[Peer, ...] = (Ours(), Etcd())) -> Report:
    plan = Plan(tuple(rows_of([1, 64])), 2, 5.0, 1.0, 1000, 256)
    record = Record(versions={"ours": "1.0", "etcd": "3.5"}, others=[others])
    machine = Machine(2, "a processor", 4.0, "Linux 1", file_system, (0.5, 1.0), "3.11", "3.40")
    return Report(plan, peers, machine, record, "2026-01-01 00:00")


def test_text_has_columns_and_markdown_bars() -> None:
    table = Table(("head", "b"), [("x", "1,000"), ("longer", "2")])
    assert table.text() == "head        b\n------  -----\nx       1,000\nlonger      2\n"
    assert table.markdown() == "| head | b |\n| --- | ---: |\n| x | 1,000 |\n| longer | 2 |\n"


def test_the_table_compares_round_by_round_and_judges_the_goal() -> None:
    found = report()
    for number, (ours, base) in enumerate([(300, 200), (100, 100)]):
        found.record.samples += [sample("ours", "put 1", number, ours), sample("etcd", "put 1", number, base)]
    found.record.samples += [sample("ours", "put 64", 0, 100), sample("etcd", "put 64", 0, 100)]
    table = found.throughput()
    assert table.head == ("operations/s: median (least–greatest)", "Ours", "etcd", "ours / etcd", "goal")
    assert table.lines[0][1:3] == ("much", "much, too")
    assert table.lines[1] == (
        "put, 1 client, one connection", "200 (100–300)", "150 (100–200)", "1.25 (1.00–1.50)", "≥ 1, met",
    )  # fmt: skip
    assert table.lines[2][3:] == ("1.00 (1.00–1.00)", "≥ 4, not met")
    assert found.details().lines[0] == (
        "put 1, Ours", "1.25 (1.00–1.50)", "2.00", "2.00", "2.00", "2.00", "667", "1333", "667", "0",
    )  # fmt: skip


def test_nothing_is_left_out_silently() -> None:
    found = report()
    found.record.reasons["etcd"] = "no etcd: install one"
    found.record.refusals["ours", "get 64"] = "it cannot"
    found.record.samples.append(sample("ours", "put 1", 0, 10))
    for text in (found.text(), found.markdown()):
        assert "NOT RUN, or not to the end: etcd: no etcd: install one\n" in text
        assert "Ours, get 64: it cannot\n" in text
        assert "there is no etcd in this run, so nothing here compares\n" in text
    line = found.throughput().lines[1]
    assert line[2:] == ("not run", "–", "≥ 1")


@pytest.mark.parametrize(("others", "told"), [(0.01, False), (1.5, True)])
def test_a_busy_machine_is_said_to_be_one(others: float, told: bool) -> None:
    assert ("A BUSY MACHINE" in report(others).text()) is told


def test_files_in_memory_are_said_to_be_there() -> None:
    assert "in memory" in report(file_system="tmpfs (rw)").text()
    assert "in memory" not in report().text()


def test_errors_are_told_with_the_first_of_them() -> None:
    found = report()
    failed = sample_of("ours", "put 1", 1, Outcome(1.0, 0.0, [1], 7, "Unavailable: nobody"), {}, 0.0)
    found.record.samples.append(failed)
    assert "Ours, put 1, round 2: 7 errors, first Unavailable: nobody\n" in found.text()


def test_json_has_every_sample() -> None:
    found = report()
    found.record.samples += [sample("ours", "put 1", number, 10) for number in range(2)]
    written = json.loads(json.dumps(found.as_json()))
    assert [(each["round"], each["ops_per_second"]) for each in written["samples"]] == [(0, 10.0), (1, 10.0)]
    assert written["plan"]["rows"] == ["put 1", "put 64", "put 64x64", "get 64"]
    assert [(each["name"], each["version"]) for each in written["systems"]] == [("ours", "1.0"), ("etcd", "3.5")]
    assert written["cells"][0]["throughput"] == {"median": 10.0, "least": 10.0, "greatest": 10.0}


def test_bars_stand_at_their_rows_with_their_spread() -> None:
    found = report()
    found.record.samples += [sample("ours", "put 64x64", number, rate) for number, rate in enumerate([100, 400])]
    [drawn] = bars(found)
    assert (drawn.title, drawn.rows, drawn.heights) == ("Ours", (2,), (250.0,))
    assert (drawn.below, drawn.above, drawn.p99_ms) == ((150.0,), (150.0,), (2.0,))


def test_plots_are_written_where_there_is_matplotlib(tmp_path: Path) -> None:
    """It comes with the extra ``bench`` only; without it the report says so."""
    found = report()
    found.record.samples.append(sample("ours", "put 1", 0, 10))
    if find_spec("matplotlib") is None:
        with pytest.raises(Missing, match="pip install matplotlib"):
            draw(found, tmp_path)
    else:
        svg, png = draw(found, tmp_path)
        assert b"<svg" in svg.read_bytes()
        assert png.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(Missing, match="pip install matplotlib"):
        draw(report(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_row_that_is_refused_is_no_row_that_was_not_run() -> None:
    found = report()
    found.record.reasons["ours"] = "round 1: it fell"
    found.record.refusals["ours", "get 64"] = "it cannot"
    assert [line[1] for line in found.throughput().lines[1:]] == ["not run", "not run", "not run", "–"]
