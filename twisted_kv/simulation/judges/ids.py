"""What a Clerk may call itself: who was told that a session is forgotten opens the next one under another id.

Else the servers could find the one that was forgotten, or give its number once more to what was never done under it
(hazard 42). It listens to what one Clerk asks of groups and is told by them; it decides nothing else, and changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from twisted_kv.interfaces import INetwork
from twisted_kv.machines.commands import OPENS, WRITES, Done, Expired, Open, Write
from twisted_kv.simulation.judges.book import home_of
from twisted_kv.simulation.judges.checkers import FRESH_ID
from twisted_kv.transport.wire import ANSWERS, KV_OPEN, KV_WRITE, Outcomes


class ClerkNetwork:
    """The INetwork of one Clerk.

    Args:
        found: is given each finding: the name of the checker, and what does not hold.
        shards: how many there are.
    """

    def __init__(self, network: INetwork, found: Callable[[str, str], None], name: str, shards: int) -> None:
        self._network = network
        self._found = found
        self._name = name
        self._shards = shards
        self._nonces: dict[tuple[int, int], bytes] = {}
        self._forgotten: set[tuple[int, bytes]] = set()
        self.send = network.send
        self.close = network.close

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        answered = self._network.call(endpoint, verb, body, timeout)
        if verb == KV_OPEN:
            opening = OPENS.decode(body)
            for shard in opening.shards:
                if (shard, opening.nonce) in self._forgotten:
                    self._found(
                        FRESH_ID, f"{self._name} opens a session in shard {shard} under an id that is forgotten"
                    )
            answered.addCallback(self._opened, opening)
        elif verb == KV_WRITE:
            answered.addCallback(self._wrote, WRITES.decode(body))
        return answered

    def _opened(self, answer: bytes, opening: Open) -> bytes:
        told = ANSWERS.decode(answer)
        if isinstance(told, Outcomes):
            for shard, outcome in zip(opening.shards, told.outcomes, strict=False):
                if isinstance(outcome, Done):
                    self._nonces[shard, outcome.value] = opening.nonce
        return answer

    def _wrote(self, answer: bytes, write: Write) -> bytes:
        told = ANSWERS.decode(answer)
        if isinstance(told, Outcomes):
            for operation, outcome in zip(write.operations, told.outcomes, strict=False):
                shard = home_of(operation.key, self._shards)
                if isinstance(outcome, Expired) and (shard, operation.session) in self._nonces:
                    self._forgotten.add((shard, self._nonces[shard, operation.session]))
        return answer
