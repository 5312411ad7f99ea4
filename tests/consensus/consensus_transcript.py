"""Plays a story of a group from a text file, and writes down all that its nodes do.

A file has commands, each on a line that begins with ``>``, and below each exactly what it causes:

``> nodes N [terms…]``   N voters; terms: entries that all of them hold from before
``> log NODE terms…``    before the first other command: this node holds entries of these terms instead
``> term N``             before the first other command: all have seen this term
``> append_bytes_max N``  before the first other command: how much one append carries
``> timeout NODE``       tick until it campaigns
``> tick NODE [count]``
``> deliver [A>B …]``    deliver what waits, on these links or on all, and what that causes, until nothing moves
``> drop [A>B …]``       lose what waits on these links, or on all
``> propose NODE text``, ``> read NODE token``, ``> event NODE Name args…``, ``> compact NODE index``
``> rows NODE FROM``     NODE installs what FROM has applied

Every Ready is carried out at once. ``python consensus_transcript.py FILE …`` writes what happens now into the files.
"""

import sys
from collections import deque
from pathlib import Path
from random import Random

import msgspec

from twisted_kv.consensus import types
from twisted_kv.consensus.raft.node import RaftNode, RaftSettings
from twisted_kv.consensus.types import Entry, HardState, NotLeader, Position, Restored, Role


class Story:
    """A group whose messages lie still until they are delivered."""

    def __init__(self) -> None:
        self.nodes: dict[int, RaftNode] = {}
        self.disks: dict[int, tuple[int, ...]] = {}
        self.links: dict[tuple[int, int], deque] = {}
        self.lines: list[str] = []
        self.term = 0
        self.settings = RaftSettings()

    def play(self, command: str) -> list[str]:
        self.lines = []
        verb, *words = command.split()
        getattr(self, f"_{verb}")(*words)
        return self.lines

    # ── commands ───────────────────────────────────────────────────────────────────────────────────

    def _nodes(self, count: str, *terms: str) -> None:
        self.disks = {node: tuple(map(int, terms)) for node in range(1, int(count) + 1)}

    def _log(self, node: str, *terms: str) -> None:
        self.disks[int(node)] = tuple(map(int, terms))

    def _term(self, term: str) -> None:
        self.term = int(term)

    def _append_bytes_max(self, count: str) -> None:
        self.settings = RaftSettings(append_bytes_max=int(count))

    def _timeout(self, node: str) -> None:
        core = self._node(node)
        for _ in range(100):
            core.tick()
            if core.status().role is Role.CANDIDATE:
                break
        self._settle(int(node))

    def _tick(self, node: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self._node(node).tick()
            self._settle(int(node))

    def _deliver(self, *links: str) -> None:
        chosen = [tuple(map(int, link.split(">"))) for link in links]
        moved = True
        while moved:
            moved = False
            for link in sorted(self.links):
                if (not chosen or link in chosen) and self.links[link]:
                    message = self.links[link].popleft()
                    self.lines.append(f"{link[0]}>{link[1]} {told(message)}")
                    self._node(link[1]).step(message)
                    self._settle(link[1])
                    moved = True

    def _drop(self, *links: str) -> None:
        for link in [tuple(map(int, link.split(">"))) for link in links] or list(self.links):
            for message in self.links.pop(link, ()):
                self.lines.append(f"{link[0]}>{link[1]} lost: {told(message)}")

    def _propose(self, node: str, text: str) -> None:
        try:
            ticket = self._node(node).propose(text.encode())
        except NotLeader as refusal:
            self.lines.append(f"{node} refuses, leader {refusal.leader}")
        else:
            self.lines.append(f"{node} takes it for {ticket.index}/{ticket.term}")
        self._settle(int(node))

    def _read(self, node: str, token: str) -> None:
        self._node(node).read(int(token))
        self._settle(int(node))

    def _event(self, node: str, name: str, *args: str) -> None:
        self._node(node).step(getattr(types, name)(*map(int, args)))
        self._settle(int(node))

    def _compact(self, node: str, index: str) -> None:
        self._node(node).compact(int(index))

    def _rows(self, node: str, source: str) -> None:
        applied = self._node(source).status().applied
        term = self._node(source).log.term_at(applied)
        self._node(node).step(types.SnapshotInstalled(applied, term))
        self._settle(int(node))

    # ── the corridor ───────────────────────────────────────────────────────────────────────────────

    def _node(self, node: str | int) -> RaftNode:
        if not self.nodes:
            for each, terms in self.disks.items():
                entries = tuple(Entry(index, term, (b"old",)) for index, term in enumerate(terms, 1))
                disk = Restored(HardState(max(self.term, *terms, 0)), Position(), entries)
                self.nodes[each] = RaftNode(each, frozenset(self.disks), disk, Random(each), settings=self.settings)
        return self.nodes[int(node)]

    def _settle(self, node: int) -> None:
        core = self._node(node)
        while (ready := core.ready()) is not None:
            say = self.lines.append
            if ready.standing is not None:
                standing = ready.standing
                say(f"  {node} is {standing.role.value} in term {standing.term}, leader {standing.leader}")
            for message in ready.early:
                say(f"  {node} sends early to {message.to}: {told(message)}")
            if ready.hard_state is not None:
                say(f"  {node} saves term {ready.hard_state.term} vote {ready.hard_state.vote}")
            if ready.cut is not None:
                say(f"  {node} cuts from {ready.cut}")
            if ready.entries:
                say(f"  {node} saves {listed(ready.entries)}")
            for message in ready.messages:
                say(f"  {node} sends to {message.to}: {told(message)}")
            if ready.committed:
                say(f"  {node} applies {listed(ready.committed)}")
            for read in ready.reads:
                say(f"  {node} may read {read.token} at {read.index}")
            if ready.fetch is not None:
                say(f"  {node} wants rows of {ready.fetch.peer} at {ready.fetch.index}/{ready.fetch.term}")
            for message in (*ready.early, *ready.messages):
                self.links.setdefault((node, message.to), deque()).append(message)
            core.advance(ready)


def told(message: object) -> str:
    """A message without its envelope."""
    fields = msgspec.structs.asdict(message)
    words = [type(message).__name__, f"term={fields['term']}"]
    for name, value in fields.items():
        if name == "entries":
            words.append(f"[{listed(value)}]")
        elif name not in ("sender", "to", "term"):
            words.append(f"{name}={str(value).lower()}")
    return " ".join(words)


def listed(entries: tuple[Entry, ...]) -> str:
    """Entries as index/term and their commands; long runs by their ends."""
    words = [f"{entry.index}/{entry.term} {b'+'.join(entry.commands).decode() or 'no-op'}" for entry in entries]
    return ", ".join(words if len(words) <= 4 else [words[0], "…", words[-1]])


def played(text: str) -> str:
    """The file as it would be if everything in it were as it is now."""
    story, lines = Story(), []
    for line in text.splitlines():
        if line.startswith(">"):
            lines += [line, *story.play(line[1:])]
        elif line.startswith("#") or not line:
            lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(played(path.read_text()))
