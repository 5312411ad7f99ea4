"""A client whose keys come and go in a shard that others use too, so that there is always something to be left behind.

Each key is put once, perhaps read or replaced, and deleted for good: what is deleted while the shard is copied, and
what comes to be behind the walk, stays so until everything is read in the end (decisions/0007). The history judges it
like any other; it knows nothing of shards but that a tag decides on one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twisted_kv.simulation.doors.world import one_of, weighted
from twisted_kv.simulation.judges.history import Verb
from twisted_kv.simulation.lives.workload import Client

LODGED_MAX: Final = 8
COMES: Final = 0.5
"""Of its calls, so many put a new key, while there is room."""
GOES: Final[Mapping[Verb, float]] = {"delete": 0.6, "put_hash": 0.25, "get": 0.15}
VALUE_CHARACTERS: Final = 60
"""A few of them are more than the smallest chunk that takers ask for (faults/knobs)."""


class Lodger(Client):
    """Puts keys into a shard, and deletes them again.

    Args:
        tag: of all its keys.
    """

    def __init__(self, *arguments: Any, tag: str, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._tag = tag
        self._count = 0
        self._lodged: dict[str, None] = {}

    def choose(self) -> tuple[Verb, str, str | None]:
        if not self._lodged or (len(self._lodged) < LODGED_MAX and self._random.random() < COMES):
            self._count += 1
            key = f"{{{self._tag}}}/{self.name}/{self._count}"
            self._lodged[key] = None
            return "put", key, self._value()
        key = one_of(self._random, list(self._lodged))
        verb = weighted(self._random, GOES)
        if verb == "delete":
            del self._lodged[key]
        return verb, key, self._value() if verb == "put_hash" else None

    def _value(self) -> str:
        return self.token().ljust(VALUE_CHARACTERS, ".")
