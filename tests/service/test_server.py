from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.errors import StartRefused
from twisted_kv.service.server import ListeningServer, Tenants, close_in_order


class Stage:
    """A network, members and a clerk that write down what is done with them."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.doors: Any = None
        self.plain: Any = None
        self.failures: list[Failure] = []
        self.listening: Deferred[Any] | None = None

    def note(self, what: str) -> Deferred[None]:
        self.said.append(what)
        return succeed(None)

    def listen(self, endpoint: str, doors: Any, plain: Any) -> Deferred[Any]:
        self.said.append(f"listen {endpoint}")
        self.doors, self.plain = doors, plain
        return self.listening or succeed(Listening(self))

    def close(self) -> Deferred[None]:
        return self.note("network closed")

    def server(self, *members: Member) -> ListeningServer:
        def furnish(host: str) -> Tenants:
            self.said.append(f"furnish for {host}")
            return Tenants(members, (Clerk(self),), {"status": lambda: succeed({})})

        return ListeningServer("tcp:0", self, furnish, self.failures.append)


class Listening:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def getHost(self) -> str:
        return "here"

    def stop(self) -> Deferred[None]:
        return self.stage.note("listener closed")


class Clerk:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    def close(self) -> Deferred[None]:
        return self.stage.note("clerk closed")


class Member:
    replica: Any

    def __init__(self, stage: Stage, name: str, starting: Deferred[None] | None = None) -> None:
        self.stage = stage
        self.name = name
        self.starting = starting or succeed(None)
        self.doors = {"who": lambda body: succeed(name.encode()), name: lambda body: succeed(b"")}
        self.replica = self

    def start(self) -> Deferred[None]:
        self.stage.said.append(f"{self.name} started")
        return self.starting

    def hand_over(self) -> Deferred[None]:
        return self.stage.note(f"{self.name} handed over")

    def stop(self) -> Deferred[None]:
        return self.stage.note(f"{self.name} stopped")


def test_files_are_opened_behind_the_listener_and_forming_is_not_waited_for() -> None:
    """A port in use is found before a file is touched; forming takes as long as the peers do."""
    stage = Stage()
    starting: Deferred[None] = Deferred()
    done = stage.server(Member(stage, "a", starting)).start()
    assert stage.said == ["listen tcp:0", "furnish for here", "a started"]
    assert done.called
    assert stage.doors.keys() == {"who", "a"}
    assert stage.plain.keys() == {"status"}


def test_of_two_doors_of_one_name_the_later_member_answers() -> None:
    """A kv-node is asked who it is as a group."""
    stage = Stage()
    stage.server(Member(stage, "controller"), Member(stage, "group")).start()
    answers: list[bytes] = []
    stage.doors["who"](b"").addCallback(answers.append)
    assert answers == [b"group"]


def test_the_stop_is_in_order() -> None:
    """Contract §1: leadership handed over first, listeners closed, files closed."""
    stage = Stage()
    server = stage.server(Member(stage, "a"), Member(stage, "b"))
    server.start()
    stage.said.clear()
    assert server.stop().called
    assert stage.said == [
        "a handed over",
        "b handed over",
        "listener closed",
        "clerk closed",
        "a stopped",
        "b stopped",
        "network closed",
    ]


def test_a_member_that_has_not_formed_has_nothing_to_hand_over() -> None:
    stage = Stage()
    member = Member(stage, "a", Deferred())
    member.replica = None
    server = stage.server(member)
    server.start()
    stage.said.clear()
    server.stop()
    assert stage.said == ["listener closed", "clerk closed", "a stopped", "network closed"]


def test_a_port_in_use_fails_the_start_and_opens_nothing() -> None:
    stage = Stage()
    stage.listening = fail(OSError("in use"))
    failures: list[Failure] = []
    server = stage.server(Member(stage, "a"))
    server.start().addErrback(failures.append)
    assert failures[0].check(OSError)
    assert stage.said == ["listen tcp:0"]
    assert server.stop().called
    assert stage.said == ["listen tcp:0", "network closed"]


def test_a_member_that_cannot_go_on_is_told() -> None:
    stage = Stage()
    starting: Deferred[None] = Deferred()
    stage.server(Member(stage, "a", starting)).start()
    starting.errback(StartRefused("no"))
    assert stage.failures[0].check(StartRefused)


def test_every_step_is_taken_whatever_fails() -> None:
    said: list[str] = []

    def step(name: str, *errors: Exception) -> Any:
        def take() -> Deferred[None]:
            said.append(name)
            return fail(errors[0]) if errors else succeed(None)

        return take

    failures: list[Failure] = []
    close_in_order(step("a", ValueError("first")), step("b", KeyError("second")), step("c")).addErrback(failures.append)
    assert said == ["a", "b", "c"]
    assert failures[0].check(ValueError)


def test_a_step_is_waited_for() -> None:
    clock = Clock()
    said: list[str] = []
    slow: Deferred[None] = Deferred()
    clock.callLater(1, slow.callback, None)

    def last() -> Deferred[None]:
        said.append("last")
        return succeed(None)

    done = close_in_order(lambda: slow, last)
    assert said == []
    clock.advance(1)
    assert said == ["last"]
    assert done.called
