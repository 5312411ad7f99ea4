"""Processes held to a share of a processor each, by the kernel's control groups.

Decides which kind there is (version 2, or the ``cpu`` hierarchy of version 1) and makes a group for every process;
``close`` moves nobody, it only removes what is empty. Nothing here is ever applied to a process that the run did not
start.

A period of 20 ms: with the kernel's usual 100 ms a process that has used up a tenth would stand still for 90 ms on end,
as long as some timeouts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks.children import Failed

ROOT: Final = Path("/sys/fs/cgroup")
PERIOD_US: Final = 20_000


class Quotas:
    """Shares of processors.

    Args:
        share: of one core, for each process; 0: as much as it likes.
        root: where control groups are mounted.
    """

    def __init__(self, share: float, root: Path = ROOT) -> None:
        self._share = share
        self._root = root
        self._made: list[Path] = []

    def hold(self, pids: Mapping[str, int]) -> None:
        """Hold each of these processes to its share from now on.

        Raises:
            Failed: the kernel does not let us.
        """
        if not self._share:
            return
        for pid in pids.values():
            try:
                self._hold(pid)
            except OSError as error:
                raise Failed(f"processes cannot be held to a share of a core: {error}") from None

    def close(self) -> None:
        """Remove the groups; their processes must have ended."""
        made, self._made = self._made, []
        for directory in made:
            directory.rmdir()

    def _hold(self, pid: int) -> None:
        second = (self._root / "cgroup.controllers").exists()
        parent = self._root if second else self._root / "cpu"
        directory = parent / f"twisted-kv-benchmark-{os.getpid()}-{pid}"
        directory.mkdir()
        self._made.append(directory)
        limit_us = int(self._share * PERIOD_US)
        if second:
            (directory / "cpu.max").write_text(f"{limit_us} {PERIOD_US}")
        else:
            (directory / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (directory / "cpu.cfs_quota_us").write_text(str(limit_us))
        (directory / "cgroup.procs").write_text(str(pid))
