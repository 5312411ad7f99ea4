"""One Raft node on a stage: the test plays everybody else."""

from random import Random
from typing import Any

from twisted_kv.consensus.raft.messages import AppendAck, PreVoteAnswer, VoteAnswer
from twisted_kv.consensus.raft.node import RaftNode, RaftSettings
from twisted_kv.consensus.types import Entry, HardState, Position, Ready, Restored, Role

VOTERS = frozenset({1, 2, 3})
START = Position()
BLANK = Restored()


def restored(*terms: int, term: int = 0, vote: int = 0, boundary: Position = START) -> Restored:
    """A disk with one entry per given term after the boundary; its term is at least the last of them."""
    entries = tuple(Entry(boundary.index + 1 + place, each, (b"x",)) for place, each in enumerate(terms))
    return Restored(HardState(max(term, boundary.term, *terms, 0), vote), boundary, entries)


class Stage:
    """A node, its disk taken for granted, and all that it said."""

    def __init__(
        self,
        node: int = 1,
        voters: frozenset[int] = VOTERS,
        disk: Restored = BLANK,
        settings: RaftSettings | None = None,
        applied: int | None = None,
        seed: int = 1,
    ) -> None:
        self.settings = settings or RaftSettings()
        self.node = RaftNode(node, voters, disk, Random(seed), applied=applied, settings=self.settings)
        self.readies: list[Ready] = []
        self.settle()

    @property
    def status(self) -> Any:
        return self.node.status()

    def settle(self) -> list[Any]:
        """Carry out every Ready; what was said, early words first."""
        said: list[Any] = []
        while (ready := self.node.ready()) is not None:
            self.readies.append(ready)
            said += [*ready.early, *ready.messages]
            self.node.advance(ready)
        return said

    def step(self, *messages: Any) -> list[Any]:
        for message in messages:
            self.node.step(message)
        return self.settle()

    def tick(self, count: int = 1) -> list[Any]:
        said = []
        for _ in range(count):
            self.node.tick()
            said += self.settle()
        return said

    def time_out(self) -> list[Any]:
        """Let the election timer fire once; the questions it asks."""
        for _ in range(2 * self.settings.election_ticks):
            said = self.tick()
            if said:
                return said
        raise AssertionError("no election timer is running")

    def campaign(self) -> list[Any]:
        """Win the pre-vote; the requests for votes."""
        self.time_out()
        voters = sorted(voter for voter in self.node._state.others)
        said = []
        for voter in voters[: (len(voters) + 1) // 2]:
            term = self.status.term
            said += self.step(PreVoteAnswer(voter, self.status.node, term, term + 1, True))
        return said

    def lead(self) -> list[Any]:
        """Win an election; the first appends."""
        self.campaign()
        said = []
        for voter in self.node._state.others:
            if self.status.role is not Role.LEADER:
                said += self.step(VoteAnswer(voter, self.status.node, self.status.term, True))
        assert self.status.role is Role.LEADER
        return said

    def ack(self, *peers: int, index: int | None = None) -> list[Any]:
        """These peers have everything on disk, or everything up to an index."""
        index = self.status.last if index is None else index
        return self.step(*(AppendAck(peer, self.status.node, self.status.term, index) for peer in peers))


def of(kind: type, said: list[Any], to: int | None = None) -> list[Any]:
    """The messages of one kind (to one peer)."""
    return [message for message in said if type(message) is kind and to in (None, message.to)]
