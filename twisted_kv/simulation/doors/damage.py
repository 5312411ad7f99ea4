"""What a power cut, a torn write and a bad sector leave of a replica's files.

A killed process loses nothing that it wrote; a closed SQLite connection even moves its write-ahead log into place. So
the files are put back as they lay when the power failed, and then made worse: the last, unfinished transaction torn
(which must be harmless), or one bit flipped (which must be refused or be harmless, hazard 34). It decides where, by
dice; it never touches the last two transactions of a write-ahead log with a flip, since a damaged one of those cannot
be told from a torn write (docs/storage.md).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Final

from twisted_kv.storage.schema import DATA, LOG

FILES: Final = tuple(f"{kind.file}{suffix}" for kind in (LOG, DATA) for suffix in ("", "-wal"))
_AIMED: Final = 0.7
"""So many of the flips hit a byte that is not zero: most of a page is nothing, and a flip there is harmless."""

_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24


def power_cut(path: str, close: Callable[[], None], unsynced: Collection[str] = ()) -> None:
    """Close a directory so that its files are what they were before.

    Args:
        unsynced: files whose commits are not synced one by one: the power takes what waits in their write-ahead log.
    """
    before = {name: _read(os.path.join(path, name)) for name in FILES}
    before |= {f"{file}-wal": b"" for file in unsynced}
    close()
    for name, content in before.items():
        _write(os.path.join(path, name), content)


def tear(path: str, random: Random) -> None:
    """Let both write-ahead logs end in a transaction that was being written."""
    for kind in (LOG, DATA):
        file = os.path.join(path, f"{kind.file}-wal")
        content = _read(file)
        if content is not None:
            torn, end = _torn(content, random), (_transaction_ends(content) or [len(content)])[-1]
            _write(file, content[:end] + torn + content[end + len(torn) :])


def flip(path: str, random: Random) -> str:
    """Flip one bit in one file of a directory; returns the name of the file and the place."""
    sizes = {name: _flippable(name, _read(os.path.join(path, name))) for name in FILES}
    name = _by_size(sizes, random)
    file = os.path.join(path, name)
    content = bytearray(_read(file) or b"")
    place = int(random.random() * sizes[name])
    if random.random() < _AIMED and any(content[: sizes[name]]):
        while not content[place]:
            place = int(random.random() * sizes[name])
    content[place] ^= 1 << int(random.random() * 8)
    _write(file, bytes(content))
    return f"{name}@{place}"


def _by_size(sizes: Mapping[str, int], random: Random) -> str:
    """One of the files, each as likely, that has anything to flip."""
    names = [name for name, size in sizes.items() if size > 0]
    return names[int(random.random() * len(names))]


def _flippable(name: str, content: bytes | None) -> int:
    """So many bytes from the beginning may be flipped."""
    if content is None or not name.endswith("-wal"):
        return len(content or b"")
    ends = _transaction_ends(content)
    return ends[-3] if len(ends) >= 3 else 0


def _transaction_ends(content: bytes) -> list[int]:
    """Where each transaction of the present generation of a write-ahead log ends."""
    ends: list[int] = []
    if len(content) < _HEADER_BYTES:
        return ends
    (page_bytes,) = struct.unpack_from(">I", content, 8)
    salts = content[16:24]
    at, step = _HEADER_BYTES, _FRAME_HEADER_BYTES + page_bytes
    while at + step <= len(content) and content[at + 8 : at + 16] == salts:
        if content[at + 4 : at + 8] != b"\0\0\0\0":
            ends.append(at + step)
        at += step
    return ends


def _torn(content: bytes, random: Random) -> bytes:
    """Part of a frame or two that no transaction ever finished."""
    if len(content) < _HEADER_BYTES:
        return b""
    (page_bytes,) = struct.unpack_from(">I", content, 8)
    pages = int(1 + 2 * random.random())
    frames = b""
    for _ in range(pages):
        number = 1 + int(random.random() * 20)
        sums = random.getrandbits(64).to_bytes(8, "big")
        frames += struct.pack(">II", number, 0) + content[16:24] + sums
        frames += random.getrandbits(8 * page_bytes).to_bytes(page_bytes, "big")
    return frames[: int(random.random() * len(frames))]


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _write(path: str, content: bytes | None) -> None:
    """The file holds this, or is not there."""
    if content is None:
        if os.path.lexists(path):
            os.unlink(path)
        return
    with open(path, "wb") as file:
        file.write(content)
