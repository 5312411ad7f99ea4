from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock

from twisted_kv._version import __version__
from twisted_kv.admin import cli, reach
from twisted_kv.admin.reach import CONTROLLERS_VARIABLE, NODE_ENDPOINT
from twisted_kv.admin.running import status_of
from twisted_kv.errors import NoSuchGroup, OutcomeUnknown, Unavailable
from twisted_kv.machines.configuration import Configuration, Member

CONFIGURATION = Configuration(num=3, shards=(100, 100), members=(Member(100, 1, ("tcp:a:1", "tcp:b:1")),))


class Stage:
    """The command line with a Clerk that notes what it is asked and answers what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self.made: list[list[str]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.answer: Any = None
        self.open = 0
        self.capture = capfdbinary
        monkeypatch.delenv(CONTROLLERS_VARIABLE, raising=False)
        for room in (cli, reach):
            monkeypatch.setattr(room, "run", self.run)
            monkeypatch.setattr(room, "Clerk", self.make)
            monkeypatch.setattr(room, "ControllerClerk", self.make)

    def make(self, controllers: list[str], reactor: Any) -> Stage:
        self.made.append(controllers)
        self.open += 1
        return self

    def close(self) -> Deferred[None]:
        self.open -= 1
        return succeed(None)

    def __getattr__(self, name: str) -> Callable[..., Deferred[Any]]:
        def call(*args: Any, **kwargs: Any) -> Deferred[Any]:
            self.calls.append((name, *args, kwargs))
            return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)

        return call

    def run(self, command: Callable[[Any], Any]) -> int:
        statuses: list[int] = []
        ensureDeferred(command(Clock())).addBoth(status_of).addCallback(statuses.append)
        return statuses[0]

    def kv(self, *arguments: str) -> tuple[int, bytes, str]:
        """Exit status, output, errors."""
        with pytest.raises(SystemExit) as caught:
            cli.main(arguments)
        assert self.open == 0
        out, told = self.capture.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, out, told.decode()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Stage:
    return Stage(monkeypatch, capfdbinary)


def test_get(stage: Stage) -> None:
    """Contract §2: get."""
    stage.answer = "é"
    assert stage.kv("get", "k") == (0, "é\n".encode(), "")
    assert stage.calls == [("get", "k", None, {"timeout": 10.0})]
    assert json.loads(stage.kv("get", "k", "--json")[1]) == {"key": "k", "exists": True, "value": "é"}
    stage.answer = b"\xff"
    assert stage.kv("get", "k", "--exists") == (0, b"\xff", "")
    assert json.loads(stage.kv("get", "k", "--json")[1])["value_base64"] == "/w=="


def test_get_of_an_absent_key(stage: Stage) -> None:
    """Contract §2: an empty line and 0, with --exists 1."""
    assert stage.kv("get", "k") == (0, b"\n", "")
    assert stage.kv("get", "k", "--exists")[:2] == (1, b"")
    assert json.loads(stage.kv("get", "k", "--json")[1]) == {"key": "k", "exists": False, "value": None}


@pytest.mark.parametrize(("command", "method"), [("put", "put"), ("append", "append"), ("puthash", "put_hash")])
def test_writes(stage: Stage, command: str, method: str) -> None:
    stage.answer = "old" if command == "puthash" else None
    assert stage.kv(command, "k", "v") == (0, b"old\n" if command == "puthash" else b"", "")
    assert stage.calls == [(method, "k", "v", {"timeout": 10.0})]
    assert json.loads(stage.kv(command, "k", "v", "--json")[1])["key"] == "k"


def test_delete(stage: Stage) -> None:
    stage.answer = True
    assert stage.kv("delete", "k") == (0, b"", "")
    stage.answer = False
    status, out, told = stage.kv("delete", "k")
    assert (status, out) == (1, b"")
    assert told.count("\n") == 1


@pytest.mark.parametrize(("error", "status"), [(NoSuchGroup("x"), 1), (OutcomeUnknown("x"), 3), (Unavailable("x"), 4)])
def test_errors_are_one_line_and_a_status(stage: Stage, error: Exception, status: int) -> None:
    """Contract §2."""
    stage.answer = error
    found, out, told = stage.kv("put", "k", "v")
    assert (found, out, told.count("\n")) == (status, b"", 1)


def test_where_the_controllers_come_from(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract §2: -c, repeatable, or TWISTED_KV_CONTROLLERS, comma-separated."""
    stage.kv("get", "k")
    monkeypatch.setenv(CONTROLLERS_VARIABLE, r"tcp:a:1,unix:/x\,y")
    stage.kv("get", "k")
    stage.kv("-c", "tcp:b:1", "-c", "tcp:c:1", "get", "k")
    stage.kv("get", "k", "--controller", "tcp:d:1,tcp:e:1")
    stage.kv("-c", "tcp:b:1", "get", "k", "-c", "tcp:f:1")
    assert stage.made == [
        [NODE_ENDPOINT],
        ["tcp:a:1", r"unix:/x\,y"],
        ["tcp:b:1", "tcp:c:1"],
        ["tcp:d:1", "tcp:e:1"],
        ["tcp:f:1"],
    ]


def test_options_stand_before_or_after_the_command(stage: Stage) -> None:
    stage.kv("--timeout", "3", "get", "k")
    stage.kv("get", "k", "--timeout", "4")
    assert [call[-1]["timeout"] for call in stage.calls] == [3.0, 4.0]
    stage.answer = "v"
    assert stage.kv("--json", "get", "k")[1] == stage.kv("get", "k", "--json")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["get"],
        ["get", "k", "--nonsense"],
        ["get", "k", "-c", "nonsense"],
        ["get", "k", "--timeout", "0"],
        ["move", "x", "1"],
        ["join"],
        ["join", "tcp:a:1"],
        ["join", "x=tcp:a:1"],
        ["join", "1=nonsense"],
        ["leave"],
        ["bench", "--mix", "x"],
        ["bench", "--value-bytes", "99999999999999"],
        ["simulate", "--plan", "nonsense"],
    ],
    ids=" ".join,
)
def test_a_line_that_cannot_be_parsed(stage: Stage, arguments: list[str]) -> None:
    """Contract §2: 2, and one line on standard error."""
    status, out, told = stage.kv(*arguments)
    assert (status, out) == (2, b"")
    assert told.startswith("twisted-kv: ")
    assert told.count("\n") == 1


def test_the_calls_of_an_administrator(stage: Stage) -> None:
    """Contract §2: several groups in one join or leave make one configuration."""
    stage.answer = CONFIGURATION
    status, out, told = stage.kv("join", "--unchecked", "100=tcp:a:1,tcp:b:1", r"101=unix:/x\,y")
    assert (status, told) == (0, "")
    assert out.decode().startswith("configuration 3: 2 shards\n")
    stage.kv("leave", "100", "101")
    stage.kv("move", "3", "100")
    stage.kv("readdress", "100=tcp:c:1")
    stage.kv("query")
    stage.kv("query", "-1")
    stage.kv("query", "2")
    at = {"timeout": 10.0}
    assert stage.calls == [
        ("join", {100: ["tcp:a:1", "tcp:b:1"], 101: [r"unix:/x\,y"]}, {"identities": {}, **at}),
        ("leave", [100, 101], at),
        ("move", 3, 100, at),
        ("readdress", 100, ["tcp:c:1"], at),
        ("query", -1, at),
        ("query", -1, at),
        ("query", 2, at),
    ]
    assert json.loads(stage.kv("query", "--json")[1])["groups"] == {"100": ["tcp:a:1", "tcp:b:1"]}


def test_join_asks_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract §2: without a majority that answers with the gid, exit 1; what they are goes into the Join."""
    asked: list[tuple[Any, ...]] = []

    async def identity(admin: Any, clock: Any, gid: int, endpoints: list[str], timeout: float) -> str:
        asked.append((gid, endpoints, timeout))
        if gid == 9:
            raise cli.asking.Refusal("not up")
        return f"identity of {gid}"

    monkeypatch.setattr(cli.asking, "group_identity", identity)
    stage.answer = CONFIGURATION
    assert stage.kv("join", "100=tcp:a:1", "--timeout", "3")[0] == 0
    assert asked == [(100, ["tcp:a:1"], 3.0)]
    assert stage.calls[-1][-1]["identities"] == {100: "identity of 100"}
    stage.calls.clear()
    assert stage.kv("join", "100=tcp:a:1", "9=tcp:b:1") == (1, b"", "twisted-kv: not up\n")
    assert stage.calls == []


def test_a_status_of_nobody_is_unavailable(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, Any]] = [
        {"controller": [], "groups": {}, "config": {}, "unreachable": ["tcp:a:1"]},
        {"controller": [{"node": 1}], "groups": {}, "config": {}, "unreachable": []},
    ]

    async def found(*args: Any) -> dict[str, Any]:
        return reports.pop(0)

    monkeypatch.setattr(cli.asking, "cluster_status", found)
    status, out, told = stage.kv("status", "--json")
    assert (status, json.loads(out)["unreachable"], told) == (4, ["tcp:a:1"], "")
    assert stage.kv("status", "--json")[0] == 0


def test_simulate(stage: Stage) -> None:
    """Contract §2; the rest of it is in test_simulating."""
    status, out, told = stage.kv("simulate", "--seed", "7", "--plan", "calm")
    assert (status, told) == (0, "")
    assert out.decode().startswith("seed 7, plan calm: ok")
    assert stage.kv("simulate", "--seed", "7", "--seeds", "5")[0] == 2


def test_inspect_refuses_what_is_no_replica(stage: Stage, tmp_path: Path) -> None:
    status, out, told = stage.kv("inspect", str(tmp_path))
    assert (status, out) == (1, b"")
    assert "no replica directory" in told
    assert stage.kv("inspect", str(tmp_path / "none"))[0] == 2


def test_version_and_help(stage: Stage) -> None:
    assert stage.kv("--version")[1].decode().split()[-1] == __version__
    for name in cli.cli.commands:
        status, out, told = stage.kv(name, "--help")
        assert (status, told) == (0, "")
        assert f"twisted-kv {name}" in out.decode(), "every help has an example"
