"""The order of a run, with processes that never were."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from paper_children import PaperChildren

from benchmarks import rounds
from benchmarks.peers.peer import Missing, Peer
from benchmarks.rounds import Plan, Record, Run
from benchmarks.tasks import Outcome, Row, Task

PLAN = Plan((Row("put", 2), Row("get", 2)), 2, 1.0, 0.5, 10, 256)
GOOD = Outcome(1.0, 0.0, [5, 6]).as_line()


class Children(PaperChildren):
    """A load says what it was told to say."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[str, str] = {}

    def asked(self, name: str, command: list[str]) -> Any:
        self.happened.append(" ".join(command))
        said = self.said.get(" ".join(command), GOOD)
        return SimpleNamespace(stdout=io.BytesIO(f"begin\nend\n{said}\n".encode()))

    def ended(self, name: str, seconds: float) -> int:
        return self.status

    def pids(self) -> dict[str, int]:
        return {"server": 1}


class Letter(Peer):
    title: ClassVar[str] = "a letter"
    promises: ClassVar[str] = ""

    def __init__(self, letter: str, **others: Any) -> None:
        self.name = letter  # type: ignore[misc]
        self.missing = others.get("missing", "")
        self.keeps = others.get("keeps", True)  # type: ignore[misc]
        self.refused = others.get("refused", "")

    def prepare(self, directory: Path) -> str:
        if self.missing:
            raise Missing(self.missing)
        return "1.0"

    def start(self, children: Any, directory: Path) -> None:
        children.happened.append(f"{self.name} start {directory.name}")

    def joined(self, children: Any) -> None:
        children.happened.append(f"{self.name} joined")

    def endpoints(self) -> tuple[str, ...]:
        return ()

    def load(self, task: Task) -> list[str]:
        return [self.name, task.kind]

    def refusal(self, row: Row) -> str | None:
        return "no such thing" if row.kind == self.refused else None


@pytest.fixture(autouse=True)
def no_look_at_this_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ticks = iter(range(1000))
    monkeypatch.setattr(rounds, "others_cores", lambda: 0.25)
    monkeypatch.setattr(rounds, "cpu_seconds_of", lambda _: float(next(ticks)))
    yield


def run(*peers: Letter, children: Children | None = None) -> tuple[list[str], Record]:
    children = children or Children()
    record = Record()
    Run(PLAN, peers, Path("servers"), children, record, lambda _: None).go()  # type: ignore[arg-type]
    return children.happened, record


def test_systems_alternate_and_are_filled_once() -> None:
    happened, record = run(Letter("a"), Letter("b"))
    first = [[f"{x} start {x}", f"{x} joined", f"{x} ready", f"{x} fill", f"{x} put", f"{x} get", "stop"] for x in "ab"]
    later = [[f"{x} start {x}", f"{x} ready", f"{x} put", f"{x} get", "stop"] for x in "ab"]
    assert happened == [*first[0], *first[1], *later[0], *later[1]]
    assert [(each.system, each.row, each.round) for each in record.samples] == [
        (system, row, number) for number in range(2) for system in "ab" for row in ("put 2", "get 2")
    ]
    assert record.others == [0.25] * 4
    assert record.samples[0].server_cpu_us == {"server": 500_000.0}


def test_what_keeps_nothing_is_not_filled_and_what_it_refuses_is_not_asked() -> None:
    happened, record = run(Letter("a", keeps=False, refused="get"))
    assert "a fill" not in happened
    assert "a get" not in happened
    assert record.refusals == {("a", "get 2"): "no such thing"}
    assert record.reasons == {}


def test_what_is_missing_is_said_and_the_others_go_on() -> None:
    happened, record = run(Letter("a", missing="install it"), Letter("b"))
    assert record.reasons == {"a": "install it"}
    assert {each.system for each in record.samples} == {"b"}
    assert not any(each.startswith("a ") for each in happened)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("nonsense", "not the outcome of a load"),
        (Outcome(1.0, 0.0, [], 3, "Unavailable: nobody").as_line(), "nothing was answered: Unavailable: nobody"),
    ],
)
def test_what_fails_is_out_with_the_reason_its_servers_are_stopped_and_the_others_go_on(said: str, why: str) -> None:
    children = Children()
    children.said["a get"] = said
    happened, record = run(Letter("a"), Letter("b"), children=children)
    assert why in record.reasons["a"]
    assert record.reasons["a"].startswith("round 1: ")
    assert happened.count("a start a") == 1
    assert happened[happened.index("a get") + 1] == "stop"
    assert [each.row for each in record.samples if each.system == "a"] == ["put 2"]
    assert len([each for each in record.samples if each.system == "b"]) == 4


def test_a_load_that_ends_badly_is_quoted() -> None:
    children = Children()
    children.status = 1
    _, record = run(Letter("a"), children=children)
    assert record.reasons["a"] == "round 1: the load ready ended with status 1: its last words"


def test_servers_are_stopped_when_the_run_is_ended() -> None:
    class Ending(Letter):
        def start(self, children: Any, directory: Path) -> None:
            raise KeyboardInterrupt

    children = Children()
    with pytest.raises(KeyboardInterrupt):
        run(Ending("a"), children=children)
    assert children.happened == ["stop"]
