"""Processes that never were: what the tests of the benchmarks' orders share."""

from __future__ import annotations


class PaperChildren:
    """Writes down, in order, what becomes of them; none ever dies by itself."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.status = 0

    def check(self) -> None:
        pass

    def tail(self, name: str) -> str:
        return "its last words"

    def stop(self) -> None:
        self.happened.append("stop")
