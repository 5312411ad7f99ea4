"""Agrees, once in the life of a group, on which directories are its voters.

Every directory draws a random incarnation when it is made. A member accepts the set {node: incarnation} that
all listed peers told it, durably and once; the group is formed when every one of them reports that same set.
As nobody accepts twice, two different sets can never both be complete. A directory that was wiped has another
incarnation, finds itself outside the formed set and comes back as a copy: it follows, never votes, never counts
(hazard 9). Decision record 0003. Knows nothing of terms, logs or clients.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.codec import Malformed
from twisted_kv.consensus.types import NodeID
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import IDisk, ILogStore, INetwork, SaveRefused
from twisted_kv.transport.wire import HELLO, PEER_HELLO, Hello

HELLO_SECONDS = 0.1
COPY_HELLO_SECONDS = 1.0
HELLO_TIMEOUT_SECONDS = 1.0

Voters = Mapping[NodeID, str]


def group_identity(voters: Voters) -> str:
    """The name of a formed group, the same on every member: what a Claim carries.

    >>> group_identity({1: "a"}) == group_identity({1: "b"})
    False
    """
    spelled = ",".join(f"{node}={incarnation}" for node, incarnation in sorted(voters.items()))
    return hashlib.sha256(spelled.encode()).hexdigest()[:32]


class Formation:
    """One member's side of the agreement.

    Args:
        hello: what this member says of itself at start (as its directory remembers it).
        peers: node → endpoint of every member, this one included.
        log: where acceptance is written, through ``disk``.
        copy_seen: called with a node whose directory is not among the voters of this formed group, and whether it is
            another one than that of which this was said before.
        stranger: called once if it is this directory that belongs to another group, as a majority says.
    """

    log = Logger()

    def __init__(
        self,
        hello: Hello,
        peers: Mapping[NodeID, str],
        log_store: ILogStore,
        disk: IDisk,
        network: INetwork,
        clock: IReactorTime,
        copy_seen: Callable[[NodeID, bool], None],
        stranger: Callable[[StartRefused], None],
    ) -> None:
        self._hello = hello
        self._peers = {node: endpoint for node, endpoint in peers.items() if node != hello.node}
        self._log_store = log_store
        self._disk = disk
        self._network = network
        self._clock = clock
        self._copy_seen = copy_seen
        self._stranger = stranger
        self._complained = False
        self._heard: dict[NodeID, Hello] = {}
        self._copies: dict[NodeID, str] = {}
        self._answers: dict[NodeID, Hello] = {}
        self._formed: Deferred[Voters] = Deferred()
        self._saving = False
        self._round: object | None = None
        self._waiting: list[Deferred[bytes]] = []
        if hello.voters and {node for node, _ in hello.voters} != set(peers):
            listed = ", ".join(str(node) for node, _ in hello.voters)
            raise StartRefused(f"this directory belongs to a group of nodes {listed}; the peers listed are others")

    @property
    def hello(self) -> Hello:
        """What this member says of itself now."""
        return self._hello

    @property
    def is_copy(self) -> bool:
        """Whether the group formed without this directory."""
        return self._hello.formed and dict(self._hello.voters).get(self._hello.node) != self._hello.incarnation

    def start(self) -> Deferred[Voters]:
        """Ask around until the group has formed. Fires with its voters; cancelled by ``stop``."""
        self._consider()
        self._ask_all()
        return self._formed

    def stop(self) -> None:
        """Ask no more."""
        if self._round is not None:
            self._round.cancel()  # type: ignore[attr-defined]
            self._round = None
        for call in self._waiting[:]:
            call.cancel()

    def answer(self, body: bytes) -> Deferred[bytes]:
        """The door PEER_HELLO."""
        try:
            hello = HELLO.decode(body)
        except Malformed:
            return succeed(HELLO.encode(self._hello))
        self._hear(hello)
        if self._is_alien(hello) and self._round is None:
            # Anybody can say so; whether it is true, the peers tell at their own endpoints.
            self._round = self._clock.callLater(COPY_HELLO_SECONDS, self._ask_all)
        return succeed(HELLO.encode(self._hello))

    # ── asking ─────────────────────────────────────────────────────────────────────────────────────

    def _ask_all(self) -> None:
        body = HELLO.encode(self._hello)
        for endpoint in self._peers.values():
            call = self._network.call(endpoint, PEER_HELLO, body, HELLO_TIMEOUT_SECONDS)
            self._waiting.append(call)
            call.addBoth(self._answered, call)
        pause = COPY_HELLO_SECONDS if self._hello.formed else HELLO_SECONDS
        self._round = self._clock.callLater(pause, self._next_round)

    def _next_round(self) -> None:
        self._round = None
        if not self._hello.formed or self.is_copy:
            self._ask_all()

    def _answered(self, result: bytes | Failure, call: Deferred[bytes]) -> None:
        self._waiting.remove(call)
        if isinstance(result, bytes):
            try:
                hello = HELLO.decode(result)
            except Malformed as error:
                self.log.debug("A peer's hello cannot be read: {error}", error=str(error))
                return
            self._answers[hello.node] = hello
            self._hear(hello)
            self._look_who_is_the_stranger(hello)

    # ── deciding ───────────────────────────────────────────────────────────────────────────────────

    def _hear(self, hello: Hello) -> None:
        mine = self._hello
        if (hello.kind, hello.gid, hello.consensus) != (mine.kind, mine.gid, mine.consensus):
            if not self._complained:  # once: strangers can say it as often as they like
                self._complained = True
                self._complain(hello)
            return
        if hello.node not in self._peers:
            return
        self._heard[hello.node] = hello
        if not mine.formed:
            self._consider()
        elif dict(mine.voters).get(hello.node) != hello.incarnation:
            known = self._copies.setdefault(hello.node, hello.incarnation)
            self._copies[hello.node] = hello.incarnation
            self._copy_seen(hello.node, known != hello.incarnation)

    def _complain(self, hello: Hello) -> None:
        self.log.error(
            "Node {node} is of {kind} {gid} with {consensus}, not of this group; it is not listened to",
            node=hello.node,
            kind=hello.kind,
            gid=hello.gid,
            consensus=hello.consensus,
        )

    def _look_who_is_the_stranger(self, hello: Hello) -> None:
        """A formed peer of other voters: one of the two directories is from elsewhere; the majority is at home."""
        alike = [node for node, heard in self._answers.items() if heard.formed and heard.voters == hello.voters]
        if self._is_alien(hello) and 2 * len(alike) > len(self._peers) + 1:
            self._stranger(StartRefused("this directory belongs to another group of the same gid than its peers'"))

    def _is_alien(self, hello: Hello) -> bool:
        """Whether its group has formed with other voters than this one."""
        mine = self._hello
        ours = (hello.kind, hello.gid, hello.consensus) == (mine.kind, mine.gid, mine.consensus)
        return ours and hello.node in self._peers and mine.formed and hello.formed and hello.voters != mine.voters

    def _consider(self) -> None:
        """Take the next step that what was heard allows; each step is durable before it is told."""
        mine = self._hello
        if mine.formed:
            self._announce()
            return
        if self._saving:
            return
        for heard in self._heard.values():
            if heard.formed:
                self._become(msgspec.structs.replace(mine, voters=heard.voters, formed=True))
                return
        if not mine.voters:
            accepted = next((heard.voters for heard in self._heard.values() if heard.voters), None)
            if accepted is None and len(self._heard) == len(self._peers):
                known = {node: heard.incarnation for node, heard in self._heard.items()}
                known[mine.node] = mine.incarnation
                accepted = tuple(sorted(known.items()))
            # A set that names another incarnation of this node is not ours to accept; it can never complete.
            if accepted is not None and dict(accepted).get(mine.node) == mine.incarnation:
                self._become(msgspec.structs.replace(mine, voters=accepted))
        elif len(self._heard) == len(self._peers) and all(
            heard.voters == mine.voters for heard in self._heard.values()
        ):
            self._become(msgspec.structs.replace(mine, formed=True))

    def _become(self, hello: Hello) -> None:
        facts = {
            "voters": ",".join(f"{node}={incarnation}" for node, incarnation in hello.voters),
            "formed": "yes" if hello.formed else "",
        }
        self._saving = True
        saved = self._disk.run(partial(self._log_store.bind, facts))
        saved.addCallbacks(self._became, self._failed, callbackArgs=(hello,))

    def _became(self, _: None, hello: Hello) -> None:
        self._saving = False
        self._hello = hello
        if hello.formed:
            self.log.info("The group has formed: node {node}, copy: {copy}", node=hello.node, copy=self.is_copy)
        self._consider()

    def _announce(self) -> None:
        if not self._formed.called:
            self._formed.callback(dict(self._hello.voters))

    def _failed(self, failure: Failure) -> None:
        if failure.check(SaveRefused):
            failure = Failure(StartRefused(f"{failure.getErrorMessage()}: make room on the disk, then start again"))
        if not self._formed.called:
            self._formed.errback(failure)
