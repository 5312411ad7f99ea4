"""Load on ours: a Clerk is a connection. ``python -m benchmarks.loads.ours TASK``."""

from __future__ import annotations

from typing import Any

from benchmarks.loads.closed_loop import Client, main
from benchmarks.tasks import Task
from twisted_kv import Clerk


async def connect(reactor: Any, task: Task) -> Client:
    """A Clerk of its own; it connects when it is first asked."""
    return Clerk(list(task.endpoints), reactor)


if __name__ == "__main__":
    main(connect)
