"""What was wrong in a round: the histories of clients, what servers logged, and how they ended.

The histories are judged by the simulator's own checkers. Of the logs it reads every leadership that any server ever
saw, and every failure that no injected fault explains. It knows no time: nothing is wrong because it was slow.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from typing import Final

from chaos_servers import Fleet, Life, Server

from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.judges.invariants import exactly_once
from twisted_kv.simulation.judges.linearizability import Verdict, findings

EXCERPT_CHARACTERS: Final = 2000
_STANDING: Final = re.compile(r"Standing: (\w+) in term (\d+), leader (-?\d+)\n")
_TROUBLE: Final = re.compile(r"Traceback \(most recent call last\)|#critical\]|Unhandled [eE]rror|Segmentation fault")
_NEXT_LINE: Final = re.compile(r"^\d{4}-\d\d-\d\dT", re.MULTILINE)

# How a server may end by itself, and what it may then log, by the fault that explains it.
EXPLAINED: Final[Mapping[str, str]] = {
    "eio": r"disk I/O error|Input/output error",
    "full": r"disk is full|No space left|room on the disk|disk I/O error",
}


def judged(history: History, final: Mapping[str, str | None]) -> Iterator[str]:
    """What the clients of a round should not have seen.

    Args:
        final: key → value, read when all was calm.
    """
    for finding in findings(history):
        checker = "decided" if finding.verdict is Verdict.UNDECIDED else "linearizable"
        yield f"{checker}: {finding.key}: {finding.reason}"
    for line in exactly_once(history, final):
        yield str(line)


class Record:
    """What servers did and logged, read on from round to round."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._read: dict[str, int] = {}
        self._judged_lives: dict[str, int] = {}
        self._leaders: dict[tuple[int, int], int] = {}
        self.elections = 0

    def violations(self) -> Iterator[str]:
        """What is wrong with what was done and logged since the last call."""
        for server in self._fleet:
            yield from self._ends(server)
            for life, text in self._logged(server):
                yield from self._leaderships(server, text)
                yield from _failures(server, life, text)

    def _ends(self, server: Server) -> Iterator[str]:
        ended = [life for life in server.lives if life.status is not None]
        for life in ended[self._judged_lives.get(server.name, 0) :]:
            # One that was asked to stop may have been killed while it did.
            demanded = life.asked is not None and life.status in (-life.asked, -signal.SIGTERM)
            explained = life.status == 1 and life.faults & set(EXPLAINED)
            if not demanded and not explained:
                asked = f"asked to by {signal.Signals(life.asked).name}" if life.asked else "without being asked"
                yield f"stopped: {server.name} ended with {life.status}, {asked}, after {sorted(life.faults)}"
        self._judged_lives[server.name] = len(ended)

    def _logged(self, server: Server) -> Iterator[tuple[Life, str]]:
        """What each life has logged since the last call, whole lines only."""
        if not server.lives:
            return
        whole = server.log.read_bytes()
        begin = self._read.get(server.name, 0)
        end = whole.rfind(b"\n") + 1
        ends = [life.begin for life in server.lives[1:]] + [end]
        for life, life_end in zip(server.lives, ends, strict=True):
            text = whole[max(begin, life.begin) : min(end, life_end)].decode(errors="replace")
            if text:
                yield life, text
        self._read[server.name] = max(begin, end)

    def _leaderships(self, server: Server, text: str) -> Iterator[str]:
        """One leader per term and group, whoever says so (Raft §5.2)."""
        for role, term, leader in _STANDING.findall(text):
            if leader == "0":
                continue
            place = (server.gid, int(term))
            if place not in self._leaders:
                self.elections += 1
            known = self._leaders.setdefault(place, int(leader))
            if known != int(leader) or (role == "leader" and int(leader) != server.node):
                yield (
                    f"one leader per term: {server.name} is {role} in term {term} of group {server.gid} and "
                    f"names {leader}; {known} was named before"
                )


def _failures(server: Server, life: Life, text: str) -> Iterator[str]:
    """Tracebacks and fatal lines that no fault of this life explains."""
    allowed = [EXPLAINED[fault] for fault in life.faults if fault in EXPLAINED]
    at = 0
    while found := _TROUBLE.search(text, at):
        begin = text.rfind("\n", 0, found.start()) + 1
        following = _NEXT_LINE.search(text, found.end())
        at = following.start() if following else len(text)
        block = text[begin:at]
        if not any(re.search(words, block) for words in allowed):
            yield f"logged: {server.name}: {block[:EXCERPT_CHARACTERS]}"
