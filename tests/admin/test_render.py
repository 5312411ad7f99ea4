from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from twisted_kv.admin import render
from twisted_kv.machines.configuration import Configuration, Member

CONFIGURATION = Configuration(num=3, shards=(100, 100, 0, 100), members=(Member(100, 1, ("tcp:a:1", "tcp:b:1")),))
MEMBER = {
    "node": 1,
    "role": "leader",
    "term": 2,
    "leader": 1,
    "applied": 9,
    "keys": 5,
    "bytes": 50,
    "shards": 4,
    "migrations": 0,
    "voter": True,
}
REPORT: dict[str, Any] = {
    "controller": [MEMBER],
    "groups": {100: [MEMBER | {"node": 2, "voter": False}]},
    "config": {"num": 3, "shards": [100, 100], "groups": {100: ["tcp:a:1"]}},
    "unreachable": ["tcp:c:1"],
}


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def test_values_are_written_as_they_are(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Contract §2: text with a newline; a bytes value raw, without one."""
    render.write_value("é\n")
    render.write_value(b"\xff\x00")
    assert capfdbinary.readouterr().out == "é\n\n".encode() + b"\xff\x00"


def test_json_of_values() -> None:
    assert render.json_value("é") == {"value": "é"}
    assert render.json_value(None) == {"value": None}
    assert render.json_value(b"\xff") == {"value_base64": "/w=="}


def test_a_configuration_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    render.write_configuration(CONFIGURATION, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "num": 3,
        "shards": [100, 100, 0, 100],
        "groups": {"100": ["tcp:a:1", "tcp:b:1"]},
    }


def test_a_configuration_in_words(capfd: pytest.CaptureFixture[str]) -> None:
    render.write_configuration(CONFIGURATION, as_json=False)
    assert capfd.readouterr().out.splitlines() == [
        "configuration 3: 4 shards",
        "nobody: 1 shards 2",
        "group 100: 3 shards 0-1,3 at tcp:a:1,tcp:b:1",
    ]


def test_a_status_in_json_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    """Contract §2: {"controller": [member…], "groups": {gid: [member…]}, "config": {…}, "unreachable": [EP…]}."""
    render.write_status(REPORT, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told.keys() == {"controller", "groups", "config", "unreachable"}
    assert told["groups"]["100"][0]["voter"] is False


def test_a_status_in_words_has_a_line_per_member(capfd: pytest.CaptureFixture[str]) -> None:
    render.write_status(REPORT, as_json=False)
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].split() == list(render.MEMBER_COLUMNS)
    assert lines[1].split() == ["controller", "1", "leader", "2", "1", "9", "5", "50", "4", "0", "yes"]
    assert lines[2].split() == ["group", "100", "2", "leader", "2", "1", "9", "5", "50", "4", "0", "no"]
    assert "unreachable: tcp:c:1" in lines


def test_a_status_in_words_tells_what_is_on_its_way(capfd: pytest.CaptureFixture[str]) -> None:
    """Of all members once, as the one knows it that has most of it."""
    copy = {"shard": 7, "from": 101, "bytes": 2_000_000, "total_bytes": 8_000_000}
    members = [
        MEMBER | {"arriving": [copy | {"bytes": 1_000_000}]},
        MEMBER | {"arriving": [copy | {"bytes_per_second": 500_000, "seconds_left": 12.0}]},
        MEMBER,
    ]
    render.write_status(REPORT | {"groups": {100: members}}, as_json=False)
    told = [line for line in capfd.readouterr().out.splitlines() if line.startswith("shard ")]
    assert told == ["shard 7 comes to group 100 from 101: 2.0 of 8.0 MB, 0.50 MB/s, 12 s left"]


def test_a_terminal_gets_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    terminal = Terminal(raw, encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", terminal)
    render.write_table(["a", "b"], [["1", "2"]])
    terminal.flush()
    assert "┃" in raw.getvalue().decode()


def test_nothing_found_is_still_a_table(capfd: pytest.CaptureFixture[str]) -> None:
    render.write_status({"controller": [], "groups": {}, "config": {}, "unreachable": ["tcp:a:1"]}, as_json=False)
    assert "unreachable: tcp:a:1" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (True, "yes"), (False, "no"), ([3, 1, 2], "1-3"), ([], "-"), (0, "0")]
)
def test_cells(value: Any, text: str) -> None:
    assert render.cell(value) == text


def test_progress_is_silent_unless_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Contract §2: a progress bar on a terminal."""
    with render.progress("loading", 10) as told:
        told(5)
    assert capsys.readouterr().err == ""
    raw = io.BytesIO()
    terminal = Terminal(raw, encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", terminal)
    with render.progress("loading", 10) as told:
        told(10)
    terminal.flush()
    assert "10/10" in raw.getvalue().decode()


def test_figures_of_a_bench(capfd: pytest.CaptureFixture[str]) -> None:
    figures = {"ops_per_second": 1234.5, "p50_ms": 1.25, "p99_ms": 9.99, "operations": 10, "seconds": 2.0, "errors": 1}
    render.write_measured(figures, as_json=False)
    render.write_measured(figures, as_json=True)
    first, second, third = capfd.readouterr().out.splitlines()
    assert first == "1234 ops/s, p50 1.2 ms, p99 10.0 ms"
    assert second == "10 operations in 2.0 s, 1 errors"
    assert json.loads(third) == figures


def test_what_an_inspection_found(capfd: pytest.CaptureFixture[str]) -> None:
    report = {
        "directory": "/d",
        "identity": {"node": "1"},
        "boundary": None,
        "copies": [{"a": 1, "b": 2, "c": 3, "d": 4}],
    }
    render.write_inspected(report, as_json=False)
    told = capfd.readouterr().out
    assert "identity: node 1" in told
    assert "1      2    3     4" in told
