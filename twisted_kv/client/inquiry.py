"""Questions of a server to other groups: whoever of some endpoints can answer, found once and remembered.

An ``interfaces.Ask`` over Seekers, one per list of endpoints. For questions and for commands that are harmless when
repeated; it does not say whether an unanswered one was carried out.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime

from twisted_kv.client.seeking import Seeker
from twisted_kv.errors import Unavailable
from twisted_kv.interfaces import INetwork

REMEMBERED_MAX: Final = 256


class Inquiry:
    """Asks; forgets the Seeker used least recently when it remembers too many."""

    def __init__(self, clock: IReactorTime, random: Random, network: INetwork) -> None:
        self._clock = clock
        self._random = random
        self._network = network
        self._seekers: dict[tuple[str, ...], Seeker] = {}

    def __call__(self, endpoints: Sequence[str], verb: str, body: bytes, timeout: float) -> Deferred[Any]:
        """Fires with a value of transport/wire; fails with a KVError. Can be cancelled."""
        return ensureDeferred(self._ask(tuple(endpoints), verb, body, timeout))

    async def _ask(self, endpoints: tuple[str, ...], verb: str, body: bytes, timeout: float) -> Any:
        if not endpoints:
            raise Unavailable("nobody is known who could be asked")
        seeker = self._seekers.pop(endpoints, None)
        if seeker is None:
            seeker = Seeker(endpoints, self._clock, self._random, self._network)
            self._forget_idle()
        self._seekers[endpoints] = seeker
        answer, _ = await seeker.ask(verb, body, self._clock.seconds() + timeout, changes=False)
        return answer

    def _forget_idle(self) -> None:
        while len(self._seekers) >= REMEMBERED_MAX:
            oldest = next((endpoints for endpoints, seeker in self._seekers.items() if seeker.idle), None)
            if oldest is None:
                return
            del self._seekers[oldest]
