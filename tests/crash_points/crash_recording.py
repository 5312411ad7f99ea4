"""The recorder as Python sees it: how it is built, armed, told what the program believes, and read back.

What it records is decided in crash_recorder.c; what a disk makes of it in crash_disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

SOURCE: Final = Path(__file__).with_name("crash_recorder.c")
_RECORD: Final = struct.Struct("<cBiiqI")

CREATED: Final = 1
EMPTIED: Final = 2


class Call(IntEnum):
    """Kinds of calls that can be made to fail; the numbers are those of crash_recorder.c."""

    WRITE = 0
    SYNC = 1
    OPEN = 2
    TRUNCATE = 3
    UNLINK = 4
    RENAME = 5
    MKDIR = 6


HOW: Final = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "KILL": -1, "HALF": -2}
"""How a call fails. HALF: half of a write, then ENOSPC. KILL: the process is gone, its disk is not."""


class Record(NamedTuple):
    """One call that was carried out, or a marker.

    Attributes:
        kind: O open, W write, T truncate, S sync, s sync that failed, U unlink, R rename, D mkdir, M marker, F a call
            that was made to fail.
        at: offset of a write, size of a truncate.
        payload: bytes written, paths below the directory, or a marker.
    """

    kind: str
    flags: int
    pid: int
    fd: int
    at: int
    payload: bytes


def built(directory: Path) -> Path:
    """The shared library, compiled into a directory."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("the recorder needs a C compiler, cc")
    library = directory / "crash_recorder.so"
    command = [compiler, "-Wall", "-Werror", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return library


class Recorder:
    """The recorder of this very process, which must have been started with it preloaded."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(None)
            self._library.crash_fail.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
            self._library.crash_count.restype = ctypes.c_long
        except AttributeError:
            raise SystemExit("this process was not started with the recorder preloaded") from None

    def begin(self, directory: str, log: str) -> None:
        """Record what happens below a directory; append to a log."""
        self._library.crash_begin(os.fsencode(directory), os.fsencode(log))

    def mark(self, *facts: Any) -> None:
        """Put a marker behind the calls made so far."""
        body = msgspec.msgpack.encode(facts)
        self._library.crash_mark(body, len(body))

    def fail(self, call: Call, k: int, how: str, for_ever: bool) -> None:
        """Make the k-th call of this kind from now on fail, or all from the k-th on."""
        self._library.crash_fail(call, k, HOW[how], for_ever)

    def count(self, call: Call) -> int:
        """Calls of this kind since ``begin``."""
        return int(self._library.crash_count(call))


def records(path: str) -> Iterator[Record]:
    """What a log holds, in order."""
    content = Path(path).read_bytes()
    at = 0
    while at < len(content):
        kind, flags, pid, fd, where, length = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        yield Record(kind.decode(), flags, pid, fd, where, content[at : at + length])
        at += length


def marker(record: Record) -> list[Any]:
    """The facts of a marker."""
    facts: list[Any] = msgspec.msgpack.decode(record.payload)
    return facts
