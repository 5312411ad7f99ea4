"""A client whose values are large: several hundred kilobytes, which no single message carries.

It puts and reads keys of its own, one call after the other; the history judges it like any other. It knows nothing of
how a body crosses.
"""

from __future__ import annotations

from typing import Final

from twisted_kv.simulation.doors.world import between, one_of
from twisted_kv.simulation.judges.history import Call, Verb
from twisted_kv.simulation.lives.workload import Client

VALUE_CHARACTERS: Final = (300_000, 700_000)
KEYS: Final = 2
PUTS: Final = 0.4
"""Of its calls, so many are puts; the others read."""


class Hauler(Client):
    """Puts large values, and reads them."""

    _generation = 0

    def choose(self) -> tuple[Verb, str, str | None]:
        key = f"{{{self.name}.{self._generation}}}/{one_of(self._random, range(KEYS))}"
        if self._random.random() < PUTS:
            return "put", key, self.token() + "x" * int(between(self._random, *VALUE_CHARACTERS))
        return "get", key, None

    def unsettled(self, call: Call) -> None:
        # What the checker has to try grows with each unknown outcome.
        self._generation += 1
