"""Every limit and length that a seed may turn, in one place: extreme ones lead where usual ones never come.

Hazards §0.5: extreme knobs found five more of 32 planted faults. It decides which figures are drawn and how they reach
the production classes: through their arguments where there are some (the settings of a core, the bytes that a request
asks for), else by putting other defaults in force for one life (the sizes of session tables). It knows no faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from random import Random
from typing import Final
from unittest.mock import patch

import msgspec
from twisted.internet.defer import Deferred

from twisted_kv.consensus.raft.state import RaftSettings
from twisted_kv.constants import (
    ELECTION_TICKS,
    ROWS_CHUNK_BYTES,
    SESSION_RESULTS_MAX,
    SESSIONS_PER_SHARD_MAX,
    WIRE_BODY_BYTES_MAX,
    WIRE_PART_BYTES,
)
from twisted_kv.interfaces import INetwork
from twisted_kv.machines import sessions, shard
from twisted_kv.machines.commands import PULLS
from twisted_kv.machines.sessions import RESULT_INLINE_BYTES, Sessions
from twisted_kv.simulation.doors.world import between, one_of
from twisted_kv.transport import chunks, links, roots
from twisted_kv.transport.wire import PEER_ROWS, ROWS_REQUEST, SHARD_PULL


class Knobs(msgspec.Struct, frozen=True):
    """How the programs of one life are set.

    Attributes:
        settings: of every core.
        chunk_bytes: that a taker of rows asks for at once.
        sessions_max: per shard; results_max: answers that a session may have waiting.
        inline_bytes: a larger answer has a row of its own; −1: all have.
        drift: clocks of members run slower or faster by up to this part.
        part_bytes: a body beyond it crosses in parts, where the production transport runs.
    """

    settings: RaftSettings = RaftSettings()
    chunk_bytes: int = ROWS_CHUNK_BYTES
    sessions_max: int = SESSIONS_PER_SHARD_MAX
    results_max: int = SESSION_RESULTS_MAX
    inline_bytes: int = RESULT_INLINE_BYTES
    drift: float = 0.0
    part_bytes: int = WIRE_PART_BYTES

    def rate(self, random: Random) -> float:
        """How fast the clock of one member runs."""
        return between(random, 1 - self.drift, 1 + self.drift) if self.drift else 1.0

    def network(self, network: INetwork) -> INetwork:
        """The network as a member of this life uses it."""
        return network if self.chunk_bytes == ROWS_CHUNK_BYTES else _SmallChunks(network, self.chunk_bytes)

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Shards that come to be meanwhile have session tables of these sizes, and bodies are parted accordingly."""
        tables = partial(Sessions, sessions_max=self.sessions_max, results_max=self.results_max)
        with ExitStack() as stack:
            stack.enter_context(patch.object(shard, "Sessions", tables))
            stack.enter_context(patch.object(sessions, "RESULT_INLINE_BYTES", self.inline_bytes))
            for room in (links, roots, chunks):
                stack.enter_context(patch.object(room, "WIRE_PART_BYTES", self.part_bytes))
            stack.enter_context(patch.object(chunks, "PARTS_MAX", 2 * WIRE_BODY_BYTES_MAX // self.part_bytes))
            yield


USUAL: Final = Knobs()


def draw_knobs(
    random: Random,
    drift: Sequence[float] = (0.0, 0.0, 0.1),
    sessions_max: Sequence[int] = (),
    chunk_bytes: Sequence[int] = (),
) -> Knobs:
    """Each knob as usual or extreme, by itself; in some lives all are as usual.

    Args:
        drift, sessions_max, chunk_bytes: one of these is drawn; no sessions_max, no chunk_bytes: any.
    """
    extreme = random.random() < 0.8
    knobs = Knobs(
        settings=RaftSettings(
            election_ticks=one_of(random, (5, ELECTION_TICKS, ELECTION_TICKS)),
            window_messages=one_of(random, (1, 2, 64)),
            window_bytes=one_of(random, (200, 1 << 23)),
            append_bytes_max=one_of(random, (1, 300, 1 << 20)),
            entry_bytes_max=one_of(random, (1, 200, 1 << 20)),
            committed_bytes_max=one_of(random, (1, 500, 1 << 22)),
        ),
        chunk_bytes=one_of(random, chunk_bytes or (100, 250, 1000, ROWS_CHUNK_BYTES)),
        sessions_max=one_of(random, sessions_max or (2, 5, SESSIONS_PER_SHARD_MAX, SESSIONS_PER_SHARD_MAX)),
        results_max=one_of(random, (1, 3, SESSION_RESULTS_MAX)),
        inline_bytes=one_of(random, (-1, 20, RESULT_INLINE_BYTES)),
        drift=one_of(random, drift),
    )
    if extreme:
        return knobs
    wishes = {"sessions_max": knobs.sessions_max} if sessions_max else {}
    if chunk_bytes:
        wishes["chunk_bytes"] = knobs.chunk_bytes
    return msgspec.structs.replace(USUAL, **wishes)


class _SmallChunks:
    """An INetwork whose owner asks for rows in small pieces; a giver gives no more than it is asked for."""

    def __init__(self, network: INetwork, chunk_bytes: int) -> None:
        self._network = network
        self._chunk_bytes = chunk_bytes
        self.send = network.send
        self.close = network.close

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        if verb == SHARD_PULL:
            body = PULLS.encode(msgspec.structs.replace(PULLS.decode(body), bytes_max=self._chunk_bytes))
        elif verb == PEER_ROWS:
            body = ROWS_REQUEST.encode(msgspec.structs.replace(ROWS_REQUEST.decode(body), bytes_max=self._chunk_bytes))
        return self._network.call(endpoint, verb, body, timeout)
