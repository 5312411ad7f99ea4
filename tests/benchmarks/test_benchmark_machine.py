from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.machine import (
    Machine,
    _busy_ticks,
    _number_of,
    bytes_on_disk,
    described,
    file_system,
    memory_bytes_of,
    processor,
    written_bytes_of,
)

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
tmpfs /tmp tmpfs rw,size=1g 0 0
/dev/vdb /tmp/with\\040space xfs rw 0 0
/dev/vdc /tmp overlay rw 0 0
"""


@pytest.mark.parametrize(
    ("directory", "found"),
    [
        ("/srv", "ext4 (rw,relatime)"),
        ("/tmpfile", "ext4 (rw,relatime)"),
        ("/proc", "proc (rw)"),
        ("/tmp/x/y", "overlay (rw)"),
        ("/tmp/with space/x", "xfs (rw)"),
    ],
)
def test_the_nearest_mount_and_of_two_the_later(directory: str, found: str) -> None:
    assert file_system(MOUNTS, Path(directory)) == found


def test_what_cannot_be_read_is_unknown() -> None:
    assert file_system("", Path("/x")) == "unknown"
    assert processor("") != ""


def test_waiting_for_a_disk_is_not_being_busy() -> None:
    """Fields: user nice system idle iowait irq softirq steal guest."""
    assert _busy_ticks("cpu  1 2 4 100 1000 8 16 32 999\ncpu0 5 5 5 5 5 5 5 5 5\n") == 63
    assert _busy_ticks("") == 0


def test_this_machine(tmp_path: Path) -> None:
    found = described(tmp_path)
    assert found.cores >= 1
    assert 0 < found.fsync_ms[0] <= found.fsync_ms[1]
    assert list(tmp_path.iterdir()) == []
    assert len(found.lines()) == 4


@pytest.mark.parametrize(("kind", "forgets"), [("tmpfs (rw)", True), ("ext4 (rw)", False)])
def test_memory_is_no_disk(kind: str, forgets: bool) -> None:
    assert Machine(1, "p", 1.0, "k", kind, (1.0, 1.0), "3", "3").forgets is forgets


def test_what_a_process_holds_and_what_a_directory_takes(tmp_path: Path) -> None:
    assert _number_of("VmPeak:\t 9 kB\nVmRSS:\t 12 kB\n", "VmRSS:") == 12
    assert _number_of("", "VmRSS:") == 0
    assert memory_bytes_of(os.getpid()) > 1_000_000
    assert memory_bytes_of(-1) == written_bytes_of(-1) == 0
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    (tmp_path / "inside").mkdir()
    found = bytes_on_disk(tmp_path)
    assert list(found) == ["a"]
    assert found["a"] >= 10_000
