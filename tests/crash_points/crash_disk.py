"""What a disk may hold when the power goes: everything synced, and any part of what was not.

The model is the weakest that POSIX leaves standing. A file's writes and truncates are durable when the file was synced
after them. The names in a directory (created, renamed, deleted) are durable when the directory was synced after them;
until then each of them may be lost by itself, in any order. A write may be torn at a boundary of 512 or 4,096 bytes. A
sync that failed makes nothing durable, and what was waiting for it is never written any more unless it is written
again, while the program that reads it back sees it (Rebello et al., ATC'20: the kernel marks the pages clean).

Knows no SQLite, and nothing of what the program believes. Source: ALICE (OSDI'14); hazards 27, 30, 35.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from crash_recording import CREATED, EMPTIED, Record

SECTOR: Final = 512
PAGE: Final = 4096


class File:
    """One file, whatever its name."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[Change] = []


class Change(NamedTuple):
    """Something that is not durable yet: to a file, or (``file`` None) to the names in a directory.

    Attributes:
        what: W write, T truncate; C create, U unlink, R rename, D mkdir.
        lost: its sync has failed, so that no later sync makes it durable.
    """

    number: int
    what: str
    file: File | None
    at: int = 0
    content: bytes = b""
    path: str = ""
    other: str = ""
    made: File | None = None
    lost: bool = False


class Picture(NamedTuple):
    """A directory as it may be found after a crash: path → content, None for a directory."""

    files: Mapping[str, bytes | None]

    def digest(self) -> bytes:
        """Equal for equal pictures."""
        found = hashlib.blake2b(digest_size=16)
        for path, content in sorted(self.files.items()):
            found.update(f"{path}\0{-1 if content is None else len(content)}\0".encode())
            found.update(content or b"")
        return found.digest()

    def put(self, directory: Path) -> None:
        """Write it into an empty directory."""
        for path, content in sorted(self.files.items()):
            if content is None:
                (directory / path).mkdir(mode=0o700)
            else:
                descriptor = os.open(directory / path, os.O_WRONLY | os.O_CREAT, 0o600)
                os.write(descriptor, content)
                os.close(descriptor)


class Subset(NamedTuple):
    """Which of the pending changes have reached the disk, by number, and how far the torn one."""

    present: frozenset[int]
    torn: int | None = None
    torn_from: int = 0
    torn_to: int = 0


class Disk:
    """One directory under a recorder, record by record.

    Attributes:
        pending_count: changes that are not durable.
    """

    def __init__(self) -> None:
        self._names: dict[str, File | None] = {}
        self._durable_names: dict[str, File | None] = {}
        self._pending: list[Change] = []
        self._open: dict[tuple[int, int], File | str] = {}
        self._count = 0

    @property
    def pending_count(self) -> int:
        return len(self._pending)

    def take(self, record: Record) -> bool:
        """One record more; True when another crash point has come."""
        taker = getattr(self, f"_take_{record.kind}", None)
        return taker is not None and taker(record) is not False

    # ── what a program does ────────────────────────────────────────────────────────────────────────

    def _take_O(self, record: Record) -> bool:
        path = record.payload.decode()
        if not path or (path in self._names and self._names[path] is None):
            self._open[record.pid, record.fd] = path
            return False
        if record.flags & CREATED:
            made = File()
            self._names[path] = made
            self._add("C", None, path=path, made=made)
        file = self._names[path]
        assert file is not None
        self._open[record.pid, record.fd] = file
        if record.flags & EMPTIED:
            self._add("T", file, at=0)
        return bool(record.flags & (CREATED | EMPTIED))

    def _take_W(self, record: Record) -> None:
        self._add("W", self._file(record), at=record.at, content=record.payload)

    def _take_T(self, record: Record) -> None:
        self._add("T", self._file(record), at=record.at)

    def _take_U(self, record: Record) -> None:
        path = record.payload.decode()
        del self._names[path]
        self._add("U", None, path=path)

    def _take_R(self, record: Record) -> None:
        path, other = record.payload.decode().split("\0")
        self._names[other] = self._names.pop(path)
        self._add("R", None, path=path, other=other)

    def _take_D(self, record: Record) -> None:
        path = record.payload.decode()
        self._names[path] = None
        self._add("D", None, path=path)

    def _take_S(self, record: Record) -> bool:
        synced = [change for change in self._of(record) if not change.lost]
        for change in synced:
            if change.file is None:
                _rename(self._durable_names, change)
            else:
                change.file.durable = _changed(change.file.durable, change)
        gone = {change.number for change in synced}
        self._pending = [change for change in self._pending if change.number not in gone]
        for change in synced:
            self._pending = [piece for older in self._pending for piece in _without(older, change)]
        return bool(synced)

    def _take_s(self, record: Record) -> bool:
        """A sync failed. What the journal of a file system holds stays with it, pages are dropped for good."""
        dropped = {change.number for change in self._of(record) if change.what == "W"}
        self._pending = [change._replace(lost=True) if change.number in dropped else change for change in self._pending]
        return True

    # ── what may be left ───────────────────────────────────────────────────────────────────────────

    def subsets(self, random: Random, count_max: int) -> list[Subset]:
        """Which parts of what is pending to look at; none and all first, the others drawn if there are too many."""
        numbers = [change.number for change in self._pending]
        everything = frozenset(numbers)
        always = [Subset(frozenset()), Subset(everything)] if numbers else [Subset(frozenset())]
        others = [Subset(everything - {number}) for number in numbers]
        others += [Subset(frozenset({number})) for number in numbers]
        others += [Subset(frozenset(numbers[:length])) for length in range(1, len(numbers))]
        others += self._torn(everything)
        others += [Subset(frozenset(n for n in numbers if random.random() < 0.5)) for _ in range(len(numbers) // 2)]
        others = [subset for subset in dict.fromkeys(others) if subset not in always]
        room = count_max - len(always)
        return always + (others if len(others) <= room else random.sample(others, room))

    def _torn(self, everything: frozenset[int]) -> Iterator[Subset]:
        writes = [change for change in self._pending if change.what == "W" and len(change.content) > 1]
        if not writes:
            return
        last = writes[-1]
        end = last.at + len(last.content)
        for step in (SECTOR, PAGE):
            first = (last.at // step + 1) * step
            boundaries = range(first, end, step)
            for boundary in {*boundaries[:2], *boundaries[-2:]}:
                there = boundary - last.at
                yield Subset(everything, last.number, 0, there)
                yield Subset(everything, last.number, there, len(last.content))
                yield Subset(frozenset({last.number}), last.number, 0, there)

    def described(self, subset: Subset) -> str:
        """In words, for whoever looks into a violation."""
        if len(subset.present) in (0, len(self._pending)):
            return "all" if subset.present else "none"
        return "only " + ", ".join(
            f"{change.what} {change.path or change.at}" for change in self._pending if change.number in subset.present
        )

    def picture(self, subset: Subset) -> Picture:
        """The directory with this part of what is pending."""
        names = dict(self._durable_names)
        contents: dict[int, bytes] = {}
        for change in self._pending:
            if change.number not in subset.present:
                continue
            if (file := change.file) is None:
                _rename(names, change)
                continue
            if change.number == subset.torn:
                content = change.content[subset.torn_from : subset.torn_to]
                change = change._replace(at=change.at + subset.torn_from, content=content)
            contents[id(file)] = _changed(contents.get(id(file), file.durable), change)
        files: dict[str, bytes | None] = {}
        for path, file in sorted(names.items()):
            parent = os.path.dirname(path)
            if not parent or parent in files:
                files[path] = None if file is None else contents.get(id(file), file.durable)
        return Picture(files)

    def _add(self, what: str, file: File | None, **facts: object) -> None:
        self._count += 1
        self._pending.append(Change(self._count, what, file, **facts))  # type: ignore[arg-type]

    def _file(self, record: Record) -> File:
        file = self._open[record.pid, record.fd]
        assert isinstance(file, File)
        return file

    def _of(self, record: Record) -> list[Change]:
        opened = self._open[record.pid, record.fd]
        if isinstance(opened, File):
            return [change for change in self._pending if change.file is opened]
        return [change for change in self._pending if change.file is None and os.path.dirname(change.path) == opened]


def _changed(content: bytes, change: Change) -> bytes:
    if change.what == "T":
        return content[: change.at].ljust(change.at, b"\0")
    end = change.at + len(change.content)
    return content[: change.at].ljust(change.at, b"\0") + change.content + content[end:]


def _without(older: Change, newer: Change) -> Iterator[Change]:
    """What is left of a lost write once a newer change of the same file is durable: the bytes that it did not touch."""
    if older.file is None or older.file is not newer.file:
        yield older
        return
    end = older.at + len(older.content)
    start = newer.at + len(newer.content) if newer.what == "W" else end
    for first, last in ((older.at, min(end, newer.at)), (max(older.at, start), end)):
        if first < last:
            yield older._replace(at=first, content=older.content[first - older.at : last - older.at])


def _rename(names: dict[str, File | None], change: Change) -> None:
    """A change of names; one that no longer finds what it is about changes nothing."""
    if change.what in "CD":
        names[change.path] = change.made
    elif change.what == "U":
        names.pop(change.path, None)
    elif change.path in names:
        names[change.other] = names.pop(change.path)
