"""The directory of one replica: made whole or not at all, locked, bound to one member, and opened only if its two
files agree.

The rules of opening (docs/storage.md): one of the files is missing, the log begins beyond the data, or the log's
term is below the data's: refused, for this is no crash of ours but somebody's hand or a bad disk. The log lacks the
entry at which the data stand: the crash fell between the two halves of installing a snapshot, and the second half is
done now.

Knows no protocol, no rows and no options; what it refuses is one line that says what to do.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Final

from twisted.logger import Logger

from twisted_kv.consensus.types import Position
from twisted_kv.constants import KIB, MIB
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import SaveRefused
from twisted_kv.storage.ballast import Ballast
from twisted_kv.storage.data_store import DataStore
from twisted_kv.storage.log_store import LogStore
from twisted_kv.storage.schema import DATA, LOG, image
from twisted_kv.storage.sqlite_file import DURABLE

_LOCK: Final = "lock"
_BALLAST: Final = "ballast"
_UNFINISHED: Final = ".new"


BALLAST_BYTES: Final = 4 * MIB
"""Enough to move a full write-ahead log, its last entry included, into the file that it belongs to."""

# Opening writes little, but each file needs a 32 KiB index of its write-ahead log beside it.
_OPENING_BYTES: Final = 256 * KIB

_events = Logger()


class ReplicaDirectory:
    """An open directory. Made by ``open_directory``.

    Attributes:
        path: absolute.
        log: its LogStore.
        data: its DataStore.
        durable: whether an acknowledged save survives a power cut; False only if that was asked for.
    """

    def __init__(
        self, path: str, log: LogStore, data: DataStore, durable: bool, ballast: Ballast, held: ExitStack
    ) -> None:
        self.path = path
        self.log = log
        self.data = data
        self.durable = durable
        self._ballast = ballast
        self._held = held

    def bind(self, identity: Mapping[str, str]) -> None:
        """Bind the directory to these facts, or find that it is bound to them already (hazard 37).

        Raises:
            StartRefused: it is bound to something else.
        """
        bound = self.log.identity()
        for name, value in identity.items():
            if bound.get(name, value) != value:
                raise StartRefused(
                    f"{self.path} belongs to {name} {bound[name]}, not {value}: correct the option, or name the "
                    "right directory"
                )
        self.log.bind({name: value for name, value in identity.items() if name not in bound})

    def release_ballast(self) -> None:
        """Give the room held back to the log, so that a trim succeeds on a full disk. Run by the log's IDisk."""
        self._ballast.release()
        self.log.shrink()

    def reserve_ballast(self) -> bool:
        """Hold room back again; False when the disk has too little. Run by the log's IDisk."""
        if not self._ballast.held:
            self.log.shrink()  # the trim was written into the room that the ballast had
        return self._ballast.reserve()

    def close(self) -> None:
        """Close both files and give the lock back; what was not committed is rolled back. Twice is harmless."""
        self._held.close()


def open_directory(
    path: str, *, synchronous: str = "FULL", create: bool = True, ballast_bytes: int = BALLAST_BYTES
) -> ReplicaDirectory:
    """Lock and open a replica's directory, and make it first if it is not there.

    Args:
        path: made with its parents, readable by its owner only.
        synchronous: of SQLite: FULL or EXTRA; OFF and NORMAL lose acknowledged writes when the power fails.
        create: whether a missing or empty directory is made; if not, it is refused.
        ballast_bytes: room held back for clearing a full disk.
    Raises:
        StartRefused: one line that says what is wrong and what to do. Damaged, one kind of it, when bytes are not
            what was written; nothing was repaired or cut off.
    """
    path = os.path.abspath(path)
    durable = synchronous in DURABLE
    try:
        with ExitStack() as held:
            _enter(path, create, durable)
            held.callback(os.close, _locked(path))
            _furnish(path, create, durable)
            ballast = Ballast(os.path.join(path, _BALLAST), ballast_bytes)
            if _room(path) < _OPENING_BYTES:
                ballast.release()
            log = LogStore(os.path.join(path, LOG.file), synchronous)
            held.callback(log.close)
            data = DataStore(os.path.join(path, DATA.file), synchronous)
            held.callback(data.close)
            _agree(path, log, data)
            # SQLite syncs the directory once it has made a -wal file, and does not look whether that succeeded.
            _sync(path, durable)
            if not ballast.reserve():
                _events.warn("{path}: the disk has no room for the ballast", path=path)
            return ReplicaDirectory(path, log, data, durable, ballast, held.pop_all())
    except SaveRefused as error:
        raise StartRefused(f"{error}: make room on the disk, then start again") from error
    except sqlite3.Error as error:
        # Of mending the log: carried out or not, the next start sees to it.
        raise StartRefused(f"{path}: {error}; check the disk, then start again") from error
    except OSError as error:
        raise StartRefused(
            f"{error.filename or path}: {error.strerror}; name a directory that can be written"
        ) from error


def _enter(path: str, create: bool, durable: bool) -> None:
    if create:
        _make(path, durable)
    elif not os.path.isdir(path):
        raise StartRefused(f"{path} is no directory: name the one that this server was started with before")
    if stat.S_IMODE(os.stat(path).st_mode) & stat.S_IWOTH:
        raise StartRefused(f"{path} can be written by everybody: chmod 700 it")


def _make(path: str, durable: bool) -> None:
    """Make a directory and its parents, each one's name synced.

    The name of what is there already is synced, too: the start that made it may have ended before it could do so.
    """
    parent = os.path.dirname(path)
    if not os.path.isdir(path) and parent != path:
        _make(parent, durable)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise  # and else another server has made their common parent in this moment
        _sync(parent, durable)
    else:
        with suppress(PermissionError):  # a parent that we cannot read is not one of our making
            _sync(parent, durable)


def _locked(path: str) -> int:
    descriptor = os.open(os.path.join(path, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise StartRefused(f"{path} is in use by process {owner}: stop it, or name another directory") from None
    os.pwrite(descriptor, f"{os.getpid():<19}\n".encode(), 0)  # in place: it needs no room on a full disk
    return descriptor


def _furnish(path: str, create: bool, durable: bool) -> None:
    """See that both files are there: a new directory gets both or none, whenever the power fails (hazard 35).

    Both are written and synced under a temporary name, then renamed. So a missing file beside an unfinished one is
    our own crash and is completed, whichever of the two names reached the disk first; a missing file with none is a
    loss.
    """
    log, data = (os.path.join(path, kind.file) for kind in (LOG, DATA))
    if not os.path.lexists(log) and not os.path.lexists(data):
        if not create:
            raise StartRefused(f"{path} holds no replica: name the directory that this server was started with before")
        for file, kind in ((log, LOG), (data, DATA)):
            if os.path.lexists(f"{file}-wal"):
                raise StartRefused(f"{file} is missing, its -wal is there: move the whole directory away")
            _write(file + _UNFINISHED, image(kind), durable)
        _sync(path, durable)
    unfinished = [file for file in (data, log) if not os.path.lexists(file) and os.path.lexists(file + _UNFINISHED)]
    for file in unfinished:
        os.rename(file + _UNFINISHED, file)
    if unfinished:
        _sync(path, durable)
    for file in (log, data):
        if not os.path.isfile(file) or os.path.islink(file):
            raise StartRefused(f"{file} is missing: move the whole directory away, it then comes back as a copy")
    for name in os.listdir(path):
        if name.endswith(_UNFINISHED):
            os.unlink(os.path.join(path, name))


def _agree(path: str, log: LogStore, data: DataStore) -> None:
    """See that the log covers all that the data do not, or begin it anew behind them."""
    index, term = data.position()
    boundary = log.boundary()
    promised = log.hard_state().term
    complaint = None
    if boundary.index > index:
        complaint = f"the log begins behind {boundary.index}, the data end at {index}"
    elif boundary.index == index and boundary.term != term:
        complaint = f"at {index} the log has term {boundary.term}, the data have {term}"
    elif promised < term:
        complaint = f"the log is at term {promised}, the data at {term}"
    if complaint:
        raise StartRefused(
            f"{path}: {LOG.file} and {DATA.file} do not belong together ({complaint}): move the whole directory away, "
            "it then comes back as a copy"
        )
    if not log.holds(Position(index, term)):
        _events.info("{path}: the log is begun anew behind {index}", path=path, index=index)
        log.reset(index, term)


def _write(path: str, content: bytes, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _room(path: str) -> int:
    figures = os.statvfs(path)
    return figures.f_bavail * figures.f_frsize


def _sync(path: str, durable: bool = True) -> None:
    if durable:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
