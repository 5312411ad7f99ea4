from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, fail, succeed
from twisted.python.failure import Failure

from twisted_kv.admin.running import Refusal, Status, exit_status, line_of, status_of, together
from twisted_kv.errors import (
    BadRequest,
    KeyTooLong,
    KVError,
    NoSuchGroup,
    NotAuthorized,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadRequest("x"), 1),
        (KeyTooLong("x"), 1),
        (NoSuchGroup("x"), 1),
        (NotAuthorized("x"), 1),
        (Refusal("x"), 1),
        (FileNotFoundError(2, "No such file", "f"), 1),
        (OutcomeUnknown("x"), 3),
        (Unavailable("x"), 4),
        (Overloaded("x"), 4),
    ],
)
def test_exit_statuses(error: Exception, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Contract §2: 1 a definite no, 3 OutcomeUnknown, 4 Unavailable or Overloaded."""
    assert status_of(Failure(error)) == exit_status(error) == status
    said = capsys.readouterr().err
    assert said.startswith("twisted-kv: ")
    assert said.count("\n") == 1


def test_every_error_has_a_status() -> None:
    def kinds(root: type[KVError]) -> list[type[KVError]]:
        return [root, *(kind for each in root.__subclasses__() for kind in kinds(each))]

    for kind in kinds(KVError):
        assert exit_status(kind("x")) in (Status.NO, Status.OUTCOME_UNKNOWN, Status.UNAVAILABLE)
        assert kind.definite == (exit_status(kind("x")) is not Status.OUTCOME_UNKNOWN)


def test_a_bug_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Contract §2: no traceback reaches a user."""
    assert status_of(Failure(ZeroDivisionError("division\nby zero"))) == Status.BUG
    assert capsys.readouterr().err == (
        "twisted-kv: this is a bug, please report it: ZeroDivisionError: division by zero\n"
    )


def test_the_line_says_what_to_do() -> None:
    assert "try again" in line_of(Unavailable("no answer"))
    assert "read, then decide" in line_of(OutcomeUnknown("no answer"))
    assert line_of(KeyTooLong("5000 bytes")) == "KeyTooLong: 5000 bytes"
    assert line_of(FileNotFoundError(2, "No such file", "f")) == "f: No such file"


def test_results_are_statuses_and_cancelling_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(Status.NO) == 1
    assert status_of(Failure(CancelledError())) == Status.INTERRUPTED
    assert capsys.readouterr().err == ""


def test_together_waits_for_all_and_raises_the_first_failure() -> None:
    last: Deferred[str] = Deferred()
    ended: list[Any] = []
    ensureDeferred(together([succeed("a"), fail(KeyError("first")), fail(ValueError()), last])).addBoth(ended.append)
    assert ended == []
    last.callback("d")
    assert ended[0].check(KeyError)
    ensureDeferred(together([succeed("a"), succeed("b")])).addBoth(ended.append)
    assert ended[1] == ["a", "b"]


def child(body: str) -> subprocess.Popen[str]:
    """A program whose ``command`` is run by admin.running."""
    program = textwrap.dedent(
        """
        import sys
        from twisted.internet.defer import Deferred
        from twisted.internet.task import deferLater
        from twisted_kv.admin.running import run

        async def command(reactor):
        {body}

        sys.exit(run(command))
        """
    ).replace("{body}", textwrap.indent(textwrap.dedent(body), "    "))
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )


@pytest.mark.process
def test_a_command_ends_with_its_status() -> None:
    process = child("await deferLater(reactor, 0)\nreturn 3")
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 3


@pytest.mark.process
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_cleans_up(signum: int) -> None:
    """Contract §2: Ctrl-C stops all of it; no traceback."""
    process = child(
        """
        try:
            print("running", flush=True)
            await Deferred()
        finally:
            await deferLater(reactor, 0.01)
            print("cleaned up", flush=True)
        """
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(signum)
    assert process.communicate(timeout=30) == ("cleaned up\n", "")
    assert process.returncode == 128 + signum


@pytest.mark.process
def test_nothing_that_twisted_logs_reaches_the_terminal() -> None:
    process = child(
        """
        from twisted.internet.defer import fail
        fail(ZeroDivisionError("lost"))
        import gc
        gc.collect()
        raise ZeroDivisionError("told")
        """
    )
    assert process.communicate(timeout=30) == (
        "",
        "twisted-kv: this is a bug, please report it: ZeroDivisionError: told\n",
    )
    assert process.returncode == Status.BUG


@pytest.mark.process
def test_a_reader_that_has_read_enough_is_no_error() -> None:
    process = child("for _ in range(100_000): print('x' * 100, flush=True)\nreturn 0")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=30) == 1
