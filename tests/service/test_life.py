from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.errors import StartRefused
from twisted_kv.service import life
from twisted_kv.service.life import STOP_SECONDS, ServerService, StartFailed, one_line


class Reactor(Clock):
    def __init__(self) -> None:
        super().__init__()
        self.stopped = 0
        self.waiting: list[Callable[[], None]] = []

    def stop(self) -> None:
        self.stopped += 1

    def callWhenRunning(self, call: Callable[[], None]) -> None:
        self.waiting.append(call)


class Server:
    def __init__(self, starting: Deferred[None], stopping: Deferred[None]) -> None:
        self.starting = starting
        self.stopping = stopping
        self.stops = 0

    def start(self) -> Deferred[None]:
        return self.starting

    def stop(self) -> Deferred[None]:
        self.stops += 1
        return self.stopping


class Stage:
    """A service on a reactor that only notes what is asked of it."""

    def __init__(self, starting: Deferred[None] | None = None, stopping: Deferred[None] | None = None) -> None:
        self.reactor = Reactor()
        self.server = Server(starting or succeed(None), stopping or succeed(None))
        self.statuses: list[int] = []
        self.failed: Callable[[Failure], None] = lambda failure: None
        self.service = ServerService("kv-test", self.reactor, self.make, self.statuses.append)

    def make(self, failed: Callable[[Failure], None]) -> Server:
        self.failed = failed
        return self.server


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others may have left threads in the test process."""
    monkeypatch.setattr(life.threading, "active_count", lambda: 1)


def said(capfd: pytest.CaptureFixture[str]) -> set[str]:
    """The lines on standard error; outside twistd, Twisted puts critical events there too."""
    return set(capfd.readouterr().err.splitlines())


def test_nothing_is_made_before_the_start() -> None:
    """ecosystem §3: twistd forks between makeService and startService."""
    made: list[Any] = []
    service = ServerService("kv-test", Reactor(), made.append, lambda status: None)  # type: ignore[arg-type]
    assert made == []
    assert service.name == "kv-test"


def test_the_process_settles_once_before_anything_is_opened() -> None:
    done: list[str] = []

    def make(failed: object) -> Any:
        done.append("made")
        return Server(succeed(None), succeed(None))

    service = ServerService("kv-test", Reactor(), make, lambda status: None, lambda: done.append("settled"))
    assert done == []
    service.startService()
    assert done == ["settled", "made"]


def test_a_start_that_is_refused_ends_the_process_with_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Contract §1: one clear line and a non-zero exit status, never a traceback."""
    stage = Stage(fail(StartRefused("the directory belongs to\nnode 2")))
    with pytest.raises(StartFailed) as caught:
        stage.service.startService()
    assert caught.value.code == 1
    assert str(caught.value) == "kv-test: the directory belongs to node 2"
    assert said(capfd) == {"kv-test: the directory belongs to node 2"}


def test_a_server_that_cannot_be_made_is_refused_alike(capfd: pytest.CaptureFixture[str]) -> None:
    def make(failed: object) -> Any:
        raise StartRefused("no")

    with pytest.raises(StartFailed):
        ServerService("kv-test", Reactor(), make, lambda status: None).startService()
    assert said(capfd) == {"kv-test: no"}


def test_twistd_takes_it_for_an_exception_and_for_an_exit() -> None:
    """Only an Exception is told to the shell that waits for a daemon; only a SystemExit prints no traceback."""
    assert issubclass(StartFailed, Exception)
    assert issubclass(StartFailed, SystemExit)


def test_with_a_thread_alive_the_reactor_has_to_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter waits for threads before it exits: raised at once, the error would hang the process."""
    monkeypatch.setattr(life.threading, "active_count", lambda: 2)
    stage = Stage(fail(StartRefused("no")))
    stage.service.startService()
    assert stage.statuses == [1]
    [stop] = stage.reactor.waiting
    stop()
    assert stage.reactor.stopped == 1


def test_a_failure_later_stops_the_reactor_and_the_exit_status_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    """ecosystem §3: after reactor.stop alone, twistd would exit 0."""
    stage = Stage()
    stage.service.startService()
    stage.failed(Failure(StartRefused("another cluster")))
    stage.failed(Failure(StartRefused("and again")))
    assert (stage.statuses, stage.reactor.stopped) == ([1], 1)
    assert said(capfd) == {"kv-test: another cluster"}


def test_what_nobody_expected_is_logged_whole(logged_errors: list[dict[str, Any]]) -> None:
    stage = Stage()
    stage.service.startService()
    stage.failed(Failure(ZeroDivisionError("by zero")))
    assert stage.statuses == [1]
    [event] = logged_errors
    assert event["log_failure"].check(ZeroDivisionError)
    logged_errors.clear()


def test_a_stop_waits_for_the_server() -> None:
    stopping: Deferred[None] = Deferred()
    stage = Stage(stopping=stopping)
    stage.service.startService()
    done = stage.service.stopService()
    assert done is not None
    assert not done.called
    stopping.callback(None)
    assert done.called
    assert stage.reactor.getDelayedCalls() == []


def test_a_stop_that_hangs_is_given_up_in_time(logged_errors: list[dict[str, Any]]) -> None:
    """Contract §1: SIGTERM stops within 10 s; twistd itself has no limit (ecosystem §3)."""
    assert STOP_SECONDS < 10
    stopping: Deferred[None] = Deferred()
    stage = Stage(stopping=stopping)
    stage.service.startService()
    done = stage.service.stopService()
    assert done is not None
    stage.reactor.advance(STOP_SECONDS)
    assert done.called
    assert len(logged_errors) == 1
    logged_errors.clear()
    stopping.callback(None)


def test_a_failure_while_stopping_changes_nothing() -> None:
    stage = Stage()
    stage.service.startService()
    stage.service.stopService()
    stage.failed(Failure(StartRefused("late")))
    assert (stage.statuses, stage.reactor.stopped) == ([], 0)


def test_a_service_that_never_started_stops() -> None:
    assert Stage().service.stopService() is None


def test_errors_are_told_in_one_line() -> None:
    assert one_line(StartRefused("a\n  b")) == "a b"
    assert one_line(OSError(13, "Permission denied", "/d")) == "[Errno 13] Permission denied: '/d'"
    assert one_line(ValueError()) == "ValueError"


def test_monotonic_time_is_what_services_run_on() -> None:
    """Hazard §0.1: set before the first callLater, never when the module is imported."""
    from twisted.internet import reactor

    from twisted_kv.service import controller, group, node

    before = reactor.seconds  # type: ignore[attr-defined]
    try:
        for module, arguments in (
            (controller, "--node 1 --data d --listen tcp:0:interface=127.0.0.1 --peer 1=tcp:127.0.0.1:1"),
            (
                group,
                "--gid 1 --node 1 --data d --listen tcp:0:interface=127.0.0.1 --peer 1=tcp:127.0.0.1:1 "
                "--controller tcp:127.0.0.1:2",
            ),
            (node, "--data d"),
        ):
            assert reactor.seconds is before  # type: ignore[attr-defined]
            options = module.Options()  # type: ignore[attr-defined]
            options.parseOptions(arguments.split())
            module.makeService(options)  # type: ignore[attr-defined]
            assert reactor.seconds is time.monotonic  # type: ignore[attr-defined]
            reactor.seconds = before  # type: ignore[attr-defined]
    finally:
        reactor.seconds = before  # type: ignore[attr-defined]
