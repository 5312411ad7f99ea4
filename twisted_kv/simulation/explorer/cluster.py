"""A few cores on a network that may do anything, within budgets: the model that ``twisted-kv explore`` searches.

The network never forgets: whatever was sent may come at any moment, again and again, or never. So loss, delay,
reordering and duplication have no bound and cost no step; and a delivery of which nothing comes is no step either. A
node that is down is one that nothing reaches, so crash and start are one step. All else that could go on for ever has
a budget.

What a message draws from a node that it leaves as it was, and heartbeats, leave at once: having been sent earlier only
adds to what can follow. For the same reason a state covers one that differs only in that less was sent.

A state is five and more numbers: each stands for a value seen before (a node, a past, what was sent, what is left of
the budgets), so equal states are equal bytes, and what a node makes of an event is worked out by the real core once
and remembered for every state in which it happens again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import Any, Final, NamedTuple

from twisted_kv.consensus.types import PeerUnreachable, Position, TransferLeadership
from twisted_kv.simulation.explorer.frozen import thaw
from twisted_kv.simulation.explorer.names import Numbers, Renaming, Renamings
from twisted_kv.simulation.explorer.node import Core, Corridor, Disk, Node, Refused, View
from twisted_kv.simulation.explorer.past import Past, broken_by, durable, grown, lost, unlike
from twisted_kv.simulation.explorer.words import event_text, message_text

KINDS: Final[Mapping[str, str]] = {
    "elections": "timeouts of nodes that do not lead",
    "proposals": "commands proposed at a leader",
    "reads": "reads asked of a leader",
    "heartbeats": "rounds of heartbeats that a leader sends by itself",
    "crashes": "crashes with a restart",
    "stalls": "saves that take time, in which anything may happen; all others end at once",
    "compactions": "checkpoints that cut a log",
    "transfers": "orders to hand leadership over",
    "silences": "leaders that give up for want of answers",
    "unreachables": "reports that a peer cannot be reached",
}
"""What costs something, one of it each time."""


class Step(NamedTuple):
    """What happened: to which node, which event, and whether the save that it began takes time."""

    node: int
    event: tuple[Any, ...]
    held: bool


class _Outcome(NamedTuple):
    """What an event made of a node: numbers of the values."""

    node: int
    mail: tuple[int, ...]
    effect: int
    wrong: int


_PLACE = {kind: place for place, kind in enumerate(KINDS)}
_READS, _PROPOSALS, _STALLS = _PLACE["reads"], _PLACE["proposals"], _PLACE["stalls"]

_OWN: Final[tuple[tuple[str | None, tuple[Any, ...]], ...]] = (
    (None, ("saved",)),
    (None, ("rows",)),
    (None, ("rows", None)),
    ("elections", ("elapse", "timeout")),
    ("heartbeats", ("elapse", "heartbeat")),
    ("silences", ("elapse", "silence")),
    ("proposals", ("propose",)),
    ("reads", ("read",)),
    ("crashes", ("crash", False)),
    ("crashes", ("crash", True)),
    ("compactions", ("compact",)),
)
"""What can happen to a node without the network, and what it costs; the rest of some events is filled in later."""

_REPEATED = frozenset({"heartbeats", "elections"})
"""What costs nothing where it alters nothing: then it has always happened already."""


class Cluster:
    """Cores 1 … n and what is between them (explorer.Model; a state is bytes).

    Args:
        core: which kind.
        budgets: how many of each of ``KINDS``; 0 unless named.
        nodes: how many cores.
        disks: what is on the disks at the beginning; blank ones unless named. Nothing of it counts as committed.

    Raises:
        ValueError: a budget of nothing that is known, or out of range.
    """

    def __init__(
        self, core: Core, budgets: Mapping[str, int], nodes: int = 3, disks: Mapping[int, Disk] | None = None
    ) -> None:
        for kind, amount in budgets.items():
            if kind not in KINDS:
                raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
            if amount < 0:
                raise ValueError(f"{kind}: {amount} is less than none")
        self._core = core
        self._voters = frozenset(range(1, nodes + 1))
        self._corridor = Corridor(core, self._voters)
        self._budget = tuple(budgets.get(kind, 0) for kind in KINDS)
        self._disks = disks or {}
        self._whole = sum(self._budget)
        self._size = nodes
        self._layout = Struct(f"={nodes + 4}I")
        self._nodes, self._messages, self._sents = Numbers(), Numbers(), Numbers()
        self._pasts, self._lefts = Numbers(), Numbers()
        self._wrongs, self._effects, self._events, self._shapes = Numbers(), Numbers(), Numbers(), Numbers()
        self._no_wrong, self._no_effect = self._wrongs[""], self._effects[0, ()]
        self._renamings = Renamings(nodes, core.node_fields, self._tidied)
        # What was worked out once, by numbers.
        self._reactions: dict[tuple[int, int, bool], _Outcome | None] = {}
        self._own: dict[int, tuple[tuple[int | None, tuple[Any, ...]], ...]] = {}
        self._spent: dict[tuple[int, int], int] = {}
        self._growth: dict[tuple[int, int, int, int], tuple[int, int]] = {}
        self._inboxes: dict[int, tuple[frozenset[int], ...]] = {}
        self._hearings: dict[tuple[int, int, bool], tuple[tuple[tuple[Any, ...], bool, _Outcome], ...]] = {}
        self._posted: dict[tuple[tuple[int, ...], int, tuple[int, ...]], int] = {}
        self._echoes: dict[tuple[int, int], tuple[int, ...]] = {}
        self._deaf: defaultdict[int, set[int]] = defaultdict(set)
        self._looks: dict[int, View] = {}
        self._shape_of: dict[int, int] = {}
        self._alone: dict[tuple[int, int], tuple[str, int]] = {}
        self._unlike: dict[tuple[int, int], bool] = {}

    # ── the model ──────────────────────────────────────────────────────────────────────────────────

    def initial(self) -> bytes:
        """All freshly started, nothing sent."""
        nodes = [self._nodes[self._corridor.born(node, self._disks.get(node, Disk()))] for node in sorted(self._voters)]
        sent, left = self._sents[frozenset()], self._lefts[self._budget]
        return self._layout.pack(*nodes, self._pasts[Past()], sent, left, self._no_wrong)

    def steps(self, state: bytes) -> Iterator[tuple[Step, bytes]]:
        """Everything that can happen to one node: a message, or something of its own."""
        *nodes, past, sent, left, wrong = self._layout.unpack(state)
        if wrong != self._no_wrong:
            return
        budget = self._lefts.of[left]
        ways = (False, True) if budget[_STALLS] else (False,)
        inboxes = self._inboxes_of(sent)
        for place, number in enumerate(nodes):
            deaf = self._deaf[number]
            for message in inboxes[place] - deaf:
                outcomes = self._heard(number, message, budget[_STALLS] > 0)
                if not outcomes:
                    deaf.add(message)
                for event, held, outcome in outcomes:
                    cost = self._spend(left, _STALLS) if held else left
                    yield Step(place + 1, event, held), self._after(nodes, place, past, sent, cost, outcome, 0)
            yield from self._by_itself(nodes, place, past, sent, left, ways)

    def _by_itself(
        self, nodes: list[int], place: int, past: int, sent: int, left: int, ways: tuple[bool, ...]
    ) -> Iterator[tuple[Step, bytes]]:
        budget, number = self._lefts.of[left], nodes[place]
        for kind, event in self._own_events(number):
            if kind is not None and not budget[kind]:
                continue
            begun = 0
            if event[0] == "propose":
                event = ("propose", b"%d" % (self._budget[_PROPOSALS] - budget[_PROPOSALS] + 1))
            elif event[0] == "read":
                begun = self._budget[_READS] - budget[_READS] + 1
                event = ("read", begun)
            elif event == ("rows",):
                event = ("rows", self._rows_for(nodes, number))
            paid = left if kind is None else self._spend(left, kind)
            reached = None
            for held in ways:
                outcome = self._react(number, self._events[event], held)
                if outcome is not None and outcome != reached:
                    reached = outcome
                    cost = self._spend(paid, _STALLS) if held else paid
                    yield Step(place + 1, event, held), self._after(nodes, place, past, sent, cost, outcome, begun)

    def taken(self, state: bytes, step: Step) -> bytes | None:
        """What this step leads to, or None where it cannot be taken; found among all steps, which happens rarely."""
        return next((after for other, after in self.steps(state) if other == step), None)

    def canonical(self, state: bytes) -> bytes:
        """The least of the states that differ from this one in names of nodes and commands alone."""
        if not self._core.symmetric:
            return state
        *nodes, past, sent, left, wrong = self._layout.unpack(state)
        if wrong != self._no_wrong:
            # Its text has names in it; its kind has none.
            wrong = self._wrongs[self._wrongs.of[wrong].partition(":")[0]]
        proposed = self._budget[_PROPOSALS] - self._lefts.of[left][_PROPOSALS]
        renamings = self._renamings.worth_trying(tuple([self._shape(number) for number in nodes]), proposed)
        return min([self._under(renaming, nodes, past, sent, left, wrong) for renaming in renamings])

    def part(self, state: bytes) -> tuple[bytes, frozenset[int]]:
        """What was sent may be more: a message that never comes is as if it were not there."""
        *nodes, past, sent, left, wrong = self._layout.unpack(state)
        messages: frozenset[int] = self._sents.of[sent]
        return self._layout.pack(*nodes, past, 0, left, wrong), messages

    def spent(self, state: bytes) -> int:
        """How much of all budgets."""
        return self._whole - int(sum(self._lefts.of[self._layout.unpack(state)[-2]]))

    def equals(self, state: bytes) -> Sequence[bytes]:
        """All states that differ from this one in names of nodes alone, itself among them; to test symmetry by."""
        *nodes, past, sent, left, wrong = self._layout.unpack(state)
        return [self._under(renaming, nodes, past, sent, left, wrong) for renaming in self._renamings.all()]

    def _under(self, renaming: Renaming, nodes: list[int], past: int, sent: int, left: int, wrong: int) -> bytes:
        if renaming.alters_nothing:
            return self._layout.pack(*nodes, past, sent, left, wrong)
        places = [0] * self._size
        for to, number in zip(renaming.places, nodes, strict=True):
            places[to] = renaming.of(self._nodes, number)
        known = renaming.sent.get(sent)
        if known is None:
            mail = frozenset([renaming.of(self._messages, message) for message in self._sents.of[sent]])
            known = renaming.sent[sent] = self._sents[mail]
        return self._layout.pack(*places, renaming.of(self._pasts, past), known, left, wrong)

    def broken(self, state: bytes) -> str:
        """Which invariant this state breaks, and how."""
        *nodes, past, _, _, wrong = self._layout.unpack(state)
        if wrong != self._no_wrong:
            return str(self._wrongs.of[wrong])
        lengths = []
        for place, number in enumerate(nodes):
            text, length = self._judged_alone(place, number, past)
            if text:
                return text
            lengths.append(length)
            for other in range(place):
                if self._differ(nodes[other], number):
                    return f"log matching: {other + 1} and {place + 1} hold different entries of one term"
        return lost(self._pasts.of[past], lengths)

    def _judged_alone(self, place: int, number: int, past: int) -> tuple[str, int]:
        """What is wrong about one node, and how much of what is committed its disk holds."""
        found = self._alone.get((number, past))
        if found is None:
            was, node = self._pasts.of[past], self._nodes.of[number]
            found = broken_by(was, place + 1, self._look(number)), durable(was, node.disk)
            self._alone[number, past] = found
        return found

    def _differ(self, one: int, other: int) -> bool:
        found = self._unlike.get((one, other))
        if found is None:
            found = self._unlike[one, other] = unlike(self._look(one), self._look(other))
        return found

    def told(self, state: bytes, step: Step) -> str:
        """The step, and what leaves the node by it."""
        outcome = self._react(self._layout.unpack(state)[step.node - 1], self._events[step.event], step.held)
        assert outcome is not None
        late = "; the save takes time" if step.held else ""
        mail = [f"\n        → {message_text(self._messages.of[message])}" for message in outcome.mail]
        return f"{step.node} {event_text(step.event)}{late}" + "".join(mail)

    def look(self, state: bytes) -> tuple[View, ...]:
        """What the nodes show in this state."""
        return tuple([self._look(number) for number in self._layout.unpack(state)[: self._size]])

    def nodes(self, state: bytes) -> tuple[Node, ...]:
        """The nodes, as values."""
        return tuple([self._nodes.of[number] for number in self._layout.unpack(state)[: self._size]])

    def past(self, state: bytes) -> Past:
        """What was, in this state."""
        past: Past = self._pasts.of[self._layout.unpack(state)[self._size]]
        return past

    def sent(self, state: bytes) -> frozenset[Any]:
        """Every message that may come."""
        mail = self._sents.of[self._layout.unpack(state)[self._size + 1]]
        return frozenset([self._messages.of[message] for message in mail])

    @property
    def counts(self) -> str:
        """What was worked out by the cores, in one line."""
        return f"{len(self._nodes):,} node states, {len(self._messages):,} messages, {len(self._reactions):,} reactions"

    # ── what happens ───────────────────────────────────────────────────────────────────────────────

    def _own_events(self, number: int) -> tuple[tuple[int | None, tuple[Any, ...]], ...]:
        """What can happen to this node by itself, with the place of what it costs."""
        found = self._own.get(number)
        if found is None:
            node: Node = self._nodes.of[number]
            others = sorted(self._voters - {node.node})
            events = [
                *_OWN,
                *[("transfers", ("step", TransferLeadership(other))) for other in others],
                *[("unreachables", ("step", PeerUnreachable(other))) for other in others],
            ]
            samples = {("propose",): ("propose", b"1"), ("read",): ("read", 1), ("rows",): ("rows", None)}
            found = self._own[number] = tuple(
                [
                    (None if kind is None else _PLACE[kind], event)
                    for kind, event in events
                    if (outcome := self._react(number, self._events[samples.get(event, event)], False)) is not None
                    and not (kind in _REPEATED and self._is_echo(number, outcome))
                ]
            )
        return found

    def _rows_for(self, nodes: Sequence[int], number: int) -> Position:
        """Where the rows stand that the peer would send."""
        source = self._nodes.of[number].fetch
        boundary: Position = self._nodes.of[nodes[source.peer - 1]].disk.boundary
        return boundary

    def _inboxes_of(self, sent: int) -> tuple[frozenset[int], ...]:
        """What was sent, by the place of who it is for."""
        found = self._inboxes.get(sent)
        if found is None:
            mail = self._sents.of[sent]
            found = self._inboxes[sent] = tuple(
                [frozenset([it for it in mail if self._messages.of[it].to == node]) for node in sorted(self._voters)]
            )
        return found

    def _heard(self, number: int, message: int, stalls: bool) -> tuple[tuple[tuple[Any, ...], bool, _Outcome], ...]:
        """The different things that may come of a message to this node."""
        key = number, message, stalls
        found = self._hearings.get(key)
        if found is None:
            value, outcomes = self._messages.of[message], dict[_Outcome, tuple[tuple[Any, ...], bool]]()
            for event in (("step", value), ("late", value)):
                for held in (False, True) if stalls else (False,):
                    outcome = self._react(number, self._events[event], held)
                    if outcome is not None and not self._is_echo(number, outcome):
                        outcomes.setdefault(outcome, (event, held))
            found = self._hearings[key] = tuple([(*how, outcome) for outcome, how in outcomes.items()])
        return found

    def _react(self, number: int, event: int, held: bool) -> _Outcome | None:
        """What the core makes of the event; None: it cannot happen, or nothing comes of it."""
        key = number, event, held
        try:
            return self._reactions[key]
        except KeyError:
            pass
        try:
            reaction = self._corridor.react(self._nodes.of[number], self._events.of[event], held)
        except Refused:
            outcome = None
        else:
            outcome = _Outcome(
                self._nodes[reaction.node],
                tuple([self._messages[message] for message in reaction.mail]),
                self._effects[reaction.acknowledged, reaction.answered],
                self._wrongs[reaction.wrong],
            )
            if outcome == (number, (), self._no_effect, self._no_wrong):
                outcome = None
        self._reactions[key] = outcome
        return outcome

    def _after(
        self, nodes: list[int], place: int, past: int, sent: int, left: int, outcome: _Outcome, begun: int
    ) -> bytes:
        """The state after an outcome at a place; ``begun``: the token of a read that began by it."""
        after, mail, _, wrong = outcome
        if wrong == self._no_wrong:
            past, wrong = self._grow(past, place, outcome, begun)
        changed = nodes[:]
        changed[place] = after
        sent = self._with_echoes(tuple(changed), sent, place, mail)
        return self._layout.pack(*changed, past, sent, left, wrong)

    def _with_echoes(self, nodes: tuple[int, ...], sent: int, place: int, mail: tuple[int, ...]) -> int:
        """What was sent once this mail is, and all that it draws from nodes that it does not change."""
        key = nodes, sent, mail
        found = self._posted.get(key)
        if found is None:
            known = self._sents.of[sent]
            new = {*mail, *self._beats(nodes[place])} - known
            waiting = [*new, *self._inboxes_of(sent)[place]]
            while waiting:
                message = waiting.pop()
                to = self._messages.of[message].to - 1
                for echo in self._echoes_of(nodes[to], message):
                    if echo not in known and echo not in new:
                        new.add(echo)
                        waiting.append(echo)
            found = self._posted[key] = self._sents[known | new] if new else sent
        return found

    def _beats(self, number: int) -> tuple[int, ...]:
        """What a node says of itself, again and again, and stays as it is."""
        outcomes = [self._react(number, self._events["elapse", what], False) for what in ("heartbeat", "timeout")]
        return tuple([it for outcome in outcomes if outcome and self._is_echo(number, outcome) for it in outcome.mail])

    def _echoes_of(self, number: int, message: int) -> tuple[int, ...]:
        """What a message draws from a node that it leaves as it is."""
        key = number, message
        found = self._echoes.get(key)
        if found is None:
            value, mail = self._messages.of[message], list[int]()
            for event in (("step", value), ("late", value)):
                outcome = self._react(number, self._events[event], False)
                if outcome is not None and self._is_echo(number, outcome):
                    mail += outcome.mail
            found = self._echoes[key] = tuple(mail)
        return found

    def _is_echo(self, number: int, outcome: _Outcome) -> bool:
        return outcome.node == number and outcome.effect == self._no_effect and outcome.wrong == self._no_wrong

    def _grow(self, past: int, place: int, outcome: _Outcome, begun: int) -> tuple[int, int]:
        """The past after an outcome, and what it shows to be wrong."""
        key = past, outcome.node, outcome.effect, begun
        found = self._growth.get(key)
        if found is None:
            was: Past = self._pasts.of[past]
            if begun:
                was = was._replace(reads=(*was.reads, (begun, was.floor)))
            acknowledged, answered = self._effects.of[outcome.effect]
            after, wrong = grown(was, place + 1, self._look(outcome.node), acknowledged, answered)
            found = self._growth[key] = self._pasts[after], self._wrongs[wrong]
        return found

    def _spend(self, left: int, kind: int) -> int:
        key = left, kind
        after = self._spent.get(key)
        if after is None:
            budget = list(self._lefts.of[left])
            budget[kind] -= 1
            after = self._spent[key] = self._lefts[tuple(budget)]
        return after

    def _tidied(self, value: Any) -> Any:
        return self._corridor.tidied(value) if isinstance(value, Node) else value

    def _look(self, number: int) -> View:
        found = self._looks.get(number)
        if found is None:
            found = self._looks[number] = self._core.look(thaw(self._nodes.of[number].core))
        return found

    def _shape(self, number: int) -> int:
        """A number for what remains of a node without any name."""
        found = self._shape_of.get(number)
        if found is None:
            node, view = self._nodes.of[number], self._look(number)
            terms = tuple([entry.term for entry in view.entries])
            vote = node.disk.hard_state.vote
            whose = 0 if not vote else 1 if vote == node.node else 2
            busy = node.saving is not None, node.fetch is not None, len(node.reads)
            shape = view.leads, view.term, view.commit, view.boundary, terms, node.applied, node.disk.last, whose, busy
            found = self._shape_of[number] = self._shapes[shape]
        return found
