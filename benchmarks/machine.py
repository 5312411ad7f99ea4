"""The machine that is measured on: what it is, what its disk costs, and how busy others keep it.

Decides what of it is told beside every result. Reads Linux's /proc where there is one; what cannot be read is said to
be unknown.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figures import percentile

FSYNCS: Final = 200
FSYNC_BYTES: Final = 4096
LOOK_SECONDS: Final = 0.5
BUSY_CORES: Final = 0.1
"""More than this in use by other programs is said to be a busy machine."""
MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})


@dataclass(frozen=True)
class Machine:
    """A machine in words and figures.

    Attributes:
        cores: that this process may use.
        fsync_ms: of an append of 4 KiB and an fsync, (p50, p99).
    """

    cores: int
    processor: str
    memory_gib: float
    kernel: str
    file_system: str
    fsync_ms: tuple[float, float]
    python: str
    sqlite: str

    def lines(self) -> list[str]:
        """For a report."""
        return [
            f"{self.cores} cores of {self.processor}, {self.memory_gib:.1f} GiB, {self.kernel}",
            f"file system of the servers: {self.file_system}",
            f"append of {FSYNC_BYTES} bytes and fsync: p50 {self.fsync_ms[0]:.2f} ms, p99 {self.fsync_ms[1]:.2f} ms",
            f"Python {self.python}, SQLite {self.sqlite}",
        ]

    @property
    def forgets(self) -> bool:
        """The servers' files are in memory, where an fsync costs nothing and means nothing."""
        return self.file_system.split()[0] in MEMORY_FILE_SYSTEMS


def described(directory: Path) -> Machine:
    """This machine, with servers in that directory."""
    return Machine(
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        processor=processor(_text("/proc/cpuinfo")),
        memory_gib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        kernel=f"{platform.system()} {platform.release()}",
        file_system=file_system(_text("/proc/self/mounts"), directory.resolve()),
        fsync_ms=fsync_ms(directory),
        python=platform.python_version(),
        sqlite=sqlite3.sqlite_version,
    )


def processor(cpuinfo: str) -> str:
    """The model in the words of /proc/cpuinfo.

    >>> processor("processor\\t: 0\\nmodel name\\t: A fast one\\n")
    'A fast one'
    """
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine() or "unknown"


def file_system(mounts: str, directory: Path) -> str:
    """Type and options of what is mounted nearest above a directory, of lines as in /proc/mounts.

    >>> file_system("a / ext4 rw 0 0\\nb /tmp tmpfs rw,nosuid 0 0\\n", Path("/tmp/x"))
    'tmpfs (rw,nosuid)'
    """
    found, depth = "unknown", -1
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        point = Path(fields[1].replace("\\040", " "))
        # As deep as the one before counts: the last mounted lies on top.
        if (directory == point or point in directory.parents) and len(point.parts) >= depth:
            found, depth = f"{fields[2]} ({fields[3]})", len(point.parts)
    return found


def fsync_ms(directory: Path) -> tuple[float, float]:
    """What an append and an fsync cost, median and p99, in milliseconds."""
    path = directory / "fsync-probe"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        taken = []
        for _ in range(FSYNCS):
            began = time.perf_counter_ns()
            os.write(file, b"v" * FSYNC_BYTES)
            os.fsync(file)
            taken.append(time.perf_counter_ns() - began)
    finally:
        os.close(file)
        path.unlink()
    taken.sort()
    return percentile(taken, 50) / 1e6, percentile(taken, 99) / 1e6


def others_cores() -> float:
    """How many cores are in use while nothing of ours runs; takes LOOK_SECONDS. 0 where it cannot be known."""
    before = _busy_ticks(_text("/proc/stat"))
    time.sleep(LOOK_SECONDS)
    return (_busy_ticks(_text("/proc/stat")) - before) / os.sysconf("SC_CLK_TCK") / LOOK_SECONDS


def _busy_ticks(stat: str) -> int:
    """Of all cores together, of the first line of /proc/stat: user nice system idle iowait irq softirq steal."""
    fields = stat.partition("\n")[0].split()
    return sum(map(int, fields[1:4])) + sum(map(int, fields[6:9])) if fields else 0


def cpu_seconds_of(pid: int) -> float:
    """What a process has used of processors, in seconds; 0 of one that is gone."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def memory_bytes_of(pid: int) -> int:
    """What a process holds in memory; 0 of one that is gone."""
    return 1024 * _number_of(_text(f"/proc/{pid}/status"), "VmRSS:")


def written_bytes_of(pid: int) -> int:
    """What a process has made the kernel write to disks; 0 of one that is gone."""
    return _number_of(_text(f"/proc/{pid}/io"), "write_bytes:")


def bytes_on_disk(directory: Path) -> dict[str, int]:
    """Name → bytes that each file of a directory takes on its disk."""
    return {path.name: 512 * path.stat().st_blocks for path in sorted(directory.iterdir()) if path.is_file()}


def _number_of(text: str, name: str) -> int:
    """Of the line of a file of /proc that begins with this name.

    >>> _number_of("VmPeak: 9 kB\\nVmRSS:   12 kB\\n", "VmRSS:")
    12
    """
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(name)), 0)


def _text(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text()
    return ""
