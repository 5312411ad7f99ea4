"""Runs one command on the reactor and turns what became of it into an exit status and at most one line.

Decides the exit statuses of contract §2. No traceback reaches a user; Ctrl-C lets the command clean up first.
Knows nothing of any command.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from enum import IntEnum
from typing import Any

import click
from twisted.internet.defer import CancelledError, Deferred, DeferredList, ensureDeferred
from twisted.logger import ILogObserver, LogEvent, globalLogBeginner
from zope.interface import implementer

from twisted_kv.errors import KVError, OutcomeUnknown, Overloaded, Unavailable


class Status(IntEnum):
    """How a command ends."""

    DONE = 0
    NO = 1
    UNPARSED = 2
    OUTCOME_UNKNOWN = 3
    UNAVAILABLE = 4
    BUG = 70
    INTERRUPTED = 130


class Refusal(Exception):
    """A definite no of the command itself: one line for standard error, exit status 1."""


Command = Callable[[Any], Coroutine[Any, Any, int]]


def run(command: Command) -> int:
    """Run a command to its end.

    Args:
        command: takes the reactor; its result is the exit status. When the user interrupts, it is cancelled and
            may still await what it needs to clean up.
    Returns:
        the exit status; whatever went wrong was said in one line on standard error.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    globalLogBeginner.beginLoggingTo([_unheard], redirectStandardIO=False, discardBuffer=True)
    ended: list[int] = []

    def begin() -> None:
        interrupts: list[int] = []
        running: Deferred[int]

        def interrupt(signum: int, frame: object) -> None:
            interrupts.append(signum)
            reactor.callFromThread(lambda: running.cancel())

        def finish(result: Any) -> None:
            ended.append(128 + interrupts[0] if interrupts else status_of(result))
            reactor.stop()

        # After the reactor has set its own: those would stop it before the command could clean up.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, interrupt)
        running = ensureDeferred(command(reactor))
        running.addBoth(finish)

    reactor.callWhenRunning(begin)
    reactor.run()
    return ended[0]


@implementer(ILogObserver)
def _unheard(event: LogEvent) -> None:
    """What Twisted logs is no business of somebody at a terminal."""


async def together(deferreds: Sequence[Deferred[Any]]) -> list[Any]:
    """The results of all, in order; once all have ended, the first failure is raised if there is one."""
    ended = await DeferredList(deferreds, consumeErrors=True)
    for succeeded, result in ended:
        if not succeeded:
            result.raiseException()
    return [result for _, result in ended]


def status_of(result: Any) -> int:
    """The exit status of a result or Failure; says in one line what went wrong."""
    error = getattr(result, "value", None)
    if not isinstance(error, BaseException):
        return int(result)
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has read enough; keep the interpreter from flushing into the pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.NO
    if isinstance(error, CancelledError):
        return Status.INTERRUPTED
    complain(line_of(error))
    return exit_status(error)


def exit_status(error: BaseException) -> Status:
    """The exit status that says what is known of the outcome.

    >>> exit_status(Unavailable("no answer")).name
    'UNAVAILABLE'
    """
    if isinstance(error, OutcomeUnknown):
        return Status.OUTCOME_UNKNOWN
    if isinstance(error, Unavailable | Overloaded):
        return Status.UNAVAILABLE
    if isinstance(error, KVError):
        return Status.NO if error.definite else Status.OUTCOME_UNKNOWN
    if isinstance(error, Refusal | OSError | click.ClickException):
        return Status.NO
    return Status.BUG


def line_of(error: BaseException) -> str:
    """What happened and what to do, in one line."""
    if isinstance(error, KVError):
        advice = next((text for kind, text in _ADVICE.items() if isinstance(error, kind)), "")
        return f"{type(error).__name__}: {error.text}{'; ' + advice if advice else ''}"
    if isinstance(error, Refusal):
        return str(error)
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"this is a bug, please report it: {type(error).__name__}: {error}"


def complain(line: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"twisted-kv: {' '.join(line.split())}\n")


_ADVICE: dict[type[KVError], str] = {
    OutcomeUnknown: "it took effect once or never: read, then decide",
    Unavailable: "nothing happened: try again, or wait longer with --timeout",
    Overloaded: "nothing happened: try again later",
}
