"""The processes of a run: each is started on this machine, known by its id, and ended by that alone.

Decides where their output goes, how long they may take to end, and what of their words is shown when one fails. Each
is the head of a session of its own, so that Ctrl-C reaches only the run, which then ends them. Knows no system.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

STOP_SECONDS: Final = 15.0
TAIL_CHARACTERS: Final = 300
ROOT: Final = Path(__file__).resolve().parent.parent
"""Where ``python -m benchmarks.NAME`` works."""


class Failed(Exception):
    """A process could not be started, or did not do what it should; the text says which and what it said last."""


class Children:
    """Everything that is running now.

    Args:
        logs: a directory; what a process says goes to a file of its name.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Start a server; it stays until ``stop``.

        Raises:
            Failed: there is no such program.
        """
        self._running[name] = self._opened(name, command, None)

    def asked(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process whose lines the caller reads from its ``stdout``."""
        process = self._opened(name, command, subprocess.PIPE)
        self._running[name] = process
        return process

    def said(self, name: str) -> list[str]:
        """The lines of one that was ``asked``, until it has ended."""
        lines = self._running[name].stdout
        assert lines is not None
        return [line.decode(errors="replace").strip() for line in lines]

    def pids(self) -> dict[str, int]:
        """Name → process id of what is running."""
        return {name: process.pid for name, process in self._running.items() if process.poll() is None}

    def check(self) -> None:
        """Nothing has ended by itself.

        Raises:
            Failed: something has.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise Failed(f"{name} ended with status {process.returncode}: {self.tail(name)}")

    def ended(self, name: str, seconds: float) -> int:
        """The exit status of one; it is killed if it takes longer."""
        process = self._running.pop(name)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return _killed(process)
        finally:
            if process.stdout is not None:
                process.stdout.close()

    def signal(self, name: str, signum: int) -> None:
        """Send one a signal."""
        self._running[name].send_signal(signum)

    def kill(self, name: str) -> None:
        """End one at once; ``ended`` still tells its status."""
        self._running[name].kill()

    def stop(self) -> None:
        """End all: SIGTERM, and SIGKILL for what has not ended in time."""
        running, self._running = self._running, {}
        for process in running.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _killed(process)
            if process.stdout is not None:
                process.stdout.close()

    def tail(self, name: str) -> str:
        """The end of what a process said on its standard error, in one line."""
        with suppress(FileNotFoundError):
            text = (self._logs / f"{name}.log").read_text(errors="replace")
            return " ".join(text[-TAIL_CHARACTERS:].split()) or "it said nothing"
        return "it said nothing"

    def _opened(self, name: str, command: Sequence[str], out: int | None) -> subprocess.Popen[bytes]:
        with open(self._logs / f"{name}.log", "ab") as log:
            try:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log if out is None else out,
                    stderr=log,
                    cwd=ROOT,
                    env=dict(os.environ),
                    start_new_session=True,
                )
            except OSError as error:
                raise Failed(f"{name}: {command[0]}: {error.strerror}") from None


def _killed(process: subprocess.Popen[bytes]) -> int:
    process.kill()
    return process.wait()
