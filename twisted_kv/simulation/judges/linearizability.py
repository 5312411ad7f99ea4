"""Could one register per key, serving one call at a time, have told the clients what they were told?

Linearizability is local (Herlihy and Wing, 1990, theorem 1): a history is linearizable if the calls on each key are, so
keys are judged apart. The search is that of Wing and Gong (1993) with Lowe's memo (2017): place one call after the
other, never one whose invocation follows the return of a call not yet placed, and never come twice to the same set of
placed calls with the same value. A call of unknown outcome has no return: it may be placed anywhere after its
invocation, or nowhere.

It refuses to guess: beyond the limit of steps the verdict is UNDECIDED, which is not OK. It knows nothing of sessions,
shards or time.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from twisted_kv.simulation.judges.history import NEVER, Call, History

STEPS_MAX: Final = 2_000_000
UNSEEN: Final = "\0 never told to anybody"

Value = str | None
"""What a register holds; None: the key is absent."""


class Verdict(enum.Enum):
    """What can be said of the calls on one key."""

    OK = "ok"
    VIOLATION = "violation"
    UNDECIDED = "undecided"


class Finding(msgspec.Struct, frozen=True):
    """The verdict on a key, why, in how many steps it was found, and when the call was made that shows it, if one does.

    Attributes:
        at: virtual seconds.
    """

    key: str
    verdict: Verdict
    reason: str
    steps: int
    at: float | None = None


def findings(history: History, steps_max: int = STEPS_MAX) -> list[Finding]:
    """Every key that is not OK; an empty list is a linearizable history."""
    judged = (check_key(key, calls, steps_max) for key, calls in sorted(history.by_key().items()))
    return [finding for finding in judged if finding.verdict is not Verdict.OK]


def check_key(key: str, calls: Sequence[Call], steps_max: int = STEPS_MAX) -> Finding:
    """Judge the calls on one key.

    Args:
        key: named in the finding.
        calls: all calls on it that may have taken effect, of known and unknown outcome.
        steps_max: how many placements to try before giving up.
    """
    relevant = without_unseen(call for call in calls if call.known or call.verb != "get")
    reason, at = broken_prefix(relevant)
    if reason:
        return Finding(key, Verdict.VIOLATION, reason, 0, at)
    return _search(key, relevant, steps_max)


def step(value: Value, call: Call) -> tuple[bool, Value]:
    """Serve one call: whether the register would have said what the client was told, and its value then."""
    match call.verb:
        case "get":
            return call.result == value, value
        case "put":
            return True, call.argument
        case "append":
            return True, (value or "") + (call.argument or "")
        case "delete":
            return not call.known or call.result == (value is not None), None
        case "put_hash":
            previous = value or ""
            return not call.known or call.result == previous, fnv1a(previous + (call.argument or ""))


def without_unseen(calls: Iterable[Call]) -> list[Call]:
    """Leave out writes of unknown outcome that nobody can have seen.

    In any valid order such a write stands where no read falls between it and the next overwriting, else its token
    would have been read; so without it the order is as valid. Not so if the key was deleted (a delete tells whether
    something was there) or hashed with unknown outcome (a hash shows everything and names nothing); then all are kept.
    """
    kept = list(calls)
    if any((call.verb == "delete" and call.known) or (call.verb == "put_hash" and not call.known) for call in kept):
        return kept
    seen = "\n".join({call.result for call in kept if isinstance(call.result, str)})
    return [call for call in kept if call.known or not call.argument or call.argument in seen or call.verb == "delete"]


def broken_prefix(calls: Sequence[Call]) -> tuple[str, float | None]:
    """What is wrong with a key to which clients only append, as far as its reads alone can tell, and when it was read;
    "" if nothing is.

    Necessary conditions, cheap and with a readable reason: every read is a prefix of each longer one, and none is
    shorter than one that had returned before it was asked.
    """
    if any(call.verb not in ("append", "get") for call in calls):
        return "", None
    reads = [call for call in calls if call.verb == "get"]
    for shorter, longer in pairwise(sorted(reads, key=lambda read: len(_text(read)))):
        if not _text(longer).startswith(_text(shorter)):
            parted = f"the reads {_short(_text(shorter))} and {_short(_text(longer))} have parted"
            return parted, max(shorter.at, longer.at)
    returned = sorted(reads, key=lambda read: read.returned)
    longest: Call | None = None
    for read in reads:  # in the order of invocation
        while returned and returned[0].returned < read.invoked:
            earlier = returned.pop(0)
            if longest is None or len(_text(earlier)) > len(_text(longest)):
                longest = earlier
        if longest is not None and len(_text(read)) < len(_text(longest)):
            return f"stale read: {_short(_text(read))} by {read.client}, after {_short(_text(longest))}", read.at
    return "", None


def fnv1a(text: str) -> str:
    """What put_hash stores: the decimal unsigned 32-bit FNV-1a hash of the UTF-8 (contract §3).

    >>> fnv1a("")
    '2166136261'
    """
    digest = 2166136261
    for byte in text.encode():
        digest = (digest ^ byte) * 16777619 & 0xFFFFFFFF
    return str(digest)


def _search(key: str, calls: Sequence[Call], steps_max: int) -> Finding:
    """Depth first over the orders, without recursion; a call of unknown outcome is placed only when no other fits."""
    timeline = _Timeline(calls)
    sight = _Sight(calls)
    to_place = sum(1 for call in calls if call.known)
    tried = _Tried()
    trail = [_Step(timeline, None, 0, 0, None)]
    furthest, stuck, at = -1, "", 0.0
    steps = 0
    while to_place:
        here = trail[-1]
        place = next(here.candidates, None)
        if place is None:
            if len(trail) > furthest:
                furthest, (stuck, at) = len(trail), timeline.explain(here.value)
            trail.pop()
            if here.placed is None:
                return Finding(key, Verdict.VIOLATION, stuck, steps, at)
            to_place += calls[here.placed].known
            timeline.restore(here.placed)
            continue
        steps += 1
        if steps > steps_max:
            return Finding(key, Verdict.UNDECIDED, f"undecided after {steps_max} placements", steps_max)
        call = calls[place]
        fits, value = step(here.value, call)
        known, unknown = here.known, here.unknown
        if call.known:
            known |= 1 << place
        else:
            unknown |= 1 << place
        value = sight.seen_as(value)
        if fits and tried.is_new(known, unknown, value):
            to_place -= call.known
            timeline.lift(place)
            trail.append(_Step(timeline, value, known, unknown, place))
    return Finding(key, Verdict.OK, "", steps)


class _Step:
    """A point of the search: the value there, the calls placed so far as bit masks, the last of them, and what may
    be placed next."""

    def __init__(self, timeline: _Timeline, value: Value, known: int, unknown: int, placed: int | None) -> None:
        self.value = value
        self.known = known
        self.unknown = unknown
        self.placed = placed
        self.candidates = timeline.candidates(unknown)


class _Sight:
    """What clients could tell apart. A value that begins no value ever told can only be overwritten or deleted, so all
    such values are one: a great saving where many writes of unknown outcome could have come in any order.

    A hash of unknown outcome would show which one it was; then they are kept apart.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._told = sorted({call.result for call in calls if isinstance(call.result, str)})
        self._exact = any(call.verb == "put_hash" and not call.known for call in calls)

    def seen_as(self, value: Value) -> Value:
        """The value itself, or the one that stands for all that nobody saw."""
        if value is None or self._exact:
            return value
        place = bisect_left(self._told, value)
        return value if place < len(self._told) and self._told[place].startswith(value) else UNSEEN


class _Tried:
    """Lowe's memo, and more: what fails with some calls of unknown outcome to spare fails with fewer, too."""

    def __init__(self) -> None:
        self._spent: dict[tuple[int, Value], list[int]] = {}

    def is_new(self, known: int, unknown: int, value: Value) -> bool:
        """Whether nothing as good was tried: the same known calls and value with no more unknown calls placed."""
        spent = self._spent.setdefault((known, value), [])
        if any(before & ~unknown == 0 for before in spent):
            return False
        spent.append(unknown)
        return True


class _Timeline:
    """The events of the known calls not yet placed, in real-time order, as a linked list.

    Event i below the number of calls is the invocation of call i, event n + i its return. Calls are lifted and
    restored last in, first out.
    """

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self._count = count = len(calls)
        self._unknown = [i for i, call in enumerate(calls) if not call.known]
        known = [i for i, call in enumerate(calls) if call.known]
        moments = [(float(calls[i].invoked), i) for i in known] + [(calls[i].returned, count + i) for i in known]
        self._end = end = 2 * count
        self._next = [end] * (end + 1)
        self._previous = [end] * (end + 1)
        last = end
        for _, event in sorted(moments):
            self._link(last, event)
            last = event
        self._link(last, end)

    def candidates(self, placed_unknown: int) -> Iterator[int]:
        """What may come next: every call that was invoked before the first return. To be asked on only when the
        timeline is again as it was."""
        event = self._next[self._end]
        while event < self._count:
            yield event
            event = self._next[event]
        horizon = self._calls[event - self._count].returned if event != self._end else NEVER
        for place in self._unknown:
            if self._calls[place].invoked < horizon and not placed_unknown >> place & 1:
                yield place

    def lift(self, place: int) -> None:
        """Take both events of a known call out."""
        if self._calls[place].known:
            for event in (place, self._count + place):
                self._link(self._previous[event], self._next[event])

    def restore(self, place: int) -> None:
        """Put both events back where they were."""
        if self._calls[place].known:
            for event in (self._count + place, place):
                self._next[self._previous[event]] = self._previous[self._next[event]] = event

    def explain(self, value: Value) -> tuple[str, float]:
        """Why nothing can be placed at this point, and when the call was made that cannot."""
        event = self._next[self._end]
        while event < self._count:
            event = self._next[event]
        held = "nothing" if value is None else _short(value)
        call = self._calls[event - self._count]
        return f"no order explains {call}, with {held} stored", call.at

    def _link(self, left: int, right: int) -> None:
        self._next[left], self._previous[right] = right, left


def _text(read: Call) -> str:
    return read.result if isinstance(read.result, str) else ""


def _short(value: str, limit: int = 60) -> str:
    return repr(value if len(value) <= limit else "…" + value[-limit:])
