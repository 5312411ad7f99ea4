"""The life of one server under twistd: start, be told of the end, stop in order and in time.

Decides what the operator sees when a start fails (one line on standard error, a non-zero exit status, no traceback)
and how long a stop may take. twistd ignores what an asynchronous start returns and would exit with 0 after
``reactor.stop``; both are put right here. Knows nothing of what the server serves.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.errors import StartRefused

STOP_SECONDS = 8.0
"""All of a stop; the contract allows 10 s for the whole process."""


class Server(Protocol):
    """What a ServerService keeps alive."""

    def start(self) -> Deferred[None]:
        """Open, listen. Fails with StartRefused when the operator must act."""

    def stop(self) -> Deferred[None]:
        """Hand over, stop listening, close, in this order. Also after a start that failed half-way."""


class StartFailed(SystemExit, Exception):
    """Ends twistd with status 1 and no traceback.

    Also an ``Exception``, because twistd reports only those from a daemon to the shell that waits for it, and
    only for those removes its pid file.
    """

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.code = 1


class ServerService(Service):
    """One server as a Twisted service. Nothing is opened before ``startService``: twistd forks between.

    Args:
        title: how the line on standard error begins.
        reactor: runs the server, and is stopped when the server ends by itself.
        make: the server; it is given whom to tell when it must stop by itself.
        leave: ends the process with a status once the reactor has stopped.
        settle: called once, before anything is opened and when all modules are here.
    """

    log = Logger()

    def __init__(
        self,
        title: str,
        reactor: Any,
        make: Callable[[Callable[[Failure], None]], Server],
        leave: Callable[[int], None] | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self.setName(title)
        self._reactor = reactor
        self._make = make
        self._leave = leave or leave_with
        self._settle = settle
        self._server: Server | None = None
        self._starting = False
        self._refused: Failure | None = None
        self._ended = False

    def startService(self) -> None:
        """Start the server.

        Raises:
            StartFailed: it failed at once; the line was printed.
        """
        super().startService()
        self._settle()
        self._starting = True
        try:
            self._server = self._make(self._failed)
            self._server.start().addErrback(self._failed)
        except Exception:
            self._refused = Failure()
        self._starting = False
        if self._refused is not None:
            self._refuse(self._refused)

    def stopService(self) -> Deferred[None] | None:
        """Stop the server; fires when it has, or after STOP_SECONDS."""
        super().stopService()
        self._ended = True
        if self._server is None:
            return None
        done: Deferred[None] = Deferred()
        done.addTimeout(STOP_SECONDS, self._reactor)
        done.addErrback(lambda failure: self.log.failure("The stop was not clean", failure))
        # Not a timeout on the stop itself: cancelled in one step, it would go on to wait in the next.
        self._server.stop().addBoth(done.callback)
        return done

    def _failed(self, failure: Failure) -> None:
        if self._starting:
            self._refused = failure
        elif not self._ended:
            self._ended = True
            self._tell(failure)
            self._leave(1)
            self._reactor.stop()

    def _refuse(self, failure: Failure) -> None:
        self._ended = True
        line = self._tell(failure)
        if threading.active_count() == 1:
            raise StartFailed(line)
        # The interpreter would wait for a disk's thread, and only a running reactor can end that.
        self._leave(1)
        self._reactor.callWhenRunning(self._reactor.stop)

    def _tell(self, failure: Failure) -> str:
        line = f"{self.name}: {one_line(failure.value or Exception())}"
        if not failure.check(StartRefused, OSError):
            self.log.failure("{line}", failure, line=line)
        else:
            self.log.critical("{line}", line=line)
        if sys.__stderr__ is not None:
            # sys.stderr is twistd's log by now.
            sys.__stderr__.write(line + "\n")
            sys.__stderr__.flush()
        return line


def one_line(error: BaseException) -> str:
    """What an operator reads of an error."""
    text = getattr(error, "text", None) or str(error) or type(error).__name__
    return " ".join(text.split())


def leave_with(status: int) -> None:
    """Give the process this exit status when it ends by itself.

    The last thing that runs, after twistd has removed its pid file; what runs at exit beside it was registered
    before it and is skipped.
    """

    def leave() -> None:
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        os._exit(status)

    atexit.register(leave)
