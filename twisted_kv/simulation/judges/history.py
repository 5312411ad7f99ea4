"""What clients asked, when, and what they were told: the evidence that the checkers judge.

It decides nothing but the order of events: invocations and returns are numbered as they happen, which in a single
thread is the real-time order. A call that failed definitely did not happen and leaves no trace; one of unknown outcome
stays open for ever, since it may still take effect. It knows neither clerks nor correctness.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

Verb = Literal["put", "append", "delete", "get", "put_hash"]

NEVER: Final = float("inf")
SHOWN_CHARS_MAX: Final = 40


class Call(msgspec.Struct):
    """One call of a client on one key.

    Attributes:
        client: who called.
        verb, key, argument: what was asked; get and delete have no argument.
        invoked, returned: numbers of the two events; ``returned`` is NEVER while unknown.
        at: virtual seconds of the invocation, for people.
        result: what came back: of a get the value, None when absent; of a delete whether it was there; of a
            put_hash the previous value, "" when absent.
    """

    client: str
    verb: Verb
    key: str
    argument: str | None
    invoked: int
    at: float
    returned: float = NEVER
    result: str | bool | None = None

    @property
    def known(self) -> bool:
        """Whether the client was told the outcome."""
        return self.returned != NEVER

    def __str__(self) -> str:
        asked = self.verb if self.argument is None else f"{self.verb}({self.argument!r})"
        told = f"[{self.invoked}, {self.returned:.0f}] -> {self.result!r}" if self.known else f"[{self.invoked}, …"
        return f"{self.at:10.4f} s {self.client}: {asked} {told}"

    @property
    def asked(self) -> str:
        """What was asked, in short, and its number.

        >>> Call("client-1", "put", "k", "value", 7, 0.5).asked
        "[7 put(k, 'value')"
        """
        argument = "" if self.argument is None else f", {_short(self.argument)!r}"
        return f"[{self.invoked} {self.verb}({self.key}{argument})"


class History:
    """All calls of a run. A call is begun, then exactly one of succeeded, failed or unknown is said of it.

    Args:
        tells: is told of each event: who, and what in a line.

    Attributes:
        writes_count: calls that changed something and came back as done.
    """

    def __init__(self, tells: Callable[[str, str], object] = lambda who, what: None) -> None:
        self._tells = tells
        self._events = 0
        self._open: dict[int, Call] = {}
        self._calls: dict[int, Call] = {}
        self.failed_count = 0
        self.unknown_count = 0
        self.writes_count = 0

    def begin(self, client: str, verb: Verb, key: str, argument: str | None, at: float) -> Call:
        """The call is made now; until more is said its outcome is unknown."""
        call = Call(client, verb, key, argument, self._event(), at)
        self._open[call.invoked] = self._calls[call.invoked] = call
        self._tells(client, call.asked)
        return call

    def succeeded(self, call: Call, result: str | bool | None) -> None:
        """It took effect, and this is what the client was told."""
        del self._open[call.invoked]
        call.returned, call.result = self._event(), result
        self.writes_count += call.verb != "get"
        shown = _short(result) if isinstance(result, str) else result
        self._tells(call.client, f"{call.asked} {call.returned:.0f}] -> {shown!r}")

    def failed(self, call: Call) -> None:
        """It certainly did not happen, or was a read that was told nothing: no evidence either way."""
        del self._open[call.invoked]
        del self._calls[call.invoked]
        self.failed_count += 1
        self._tells(call.client, f"{call.asked} failed]")

    def unknown(self, call: Call) -> None:
        """The client gave up; it may have taken effect, or may yet."""
        del self._open[call.invoked]
        self._event()
        self.unknown_count += 1
        self._tells(call.client, f"{call.asked} unknown]")

    @property
    def open(self) -> list[Call]:
        """Calls that have not come back yet."""
        return list(self._open.values())

    def by_key(self) -> Mapping[str, list[Call]]:
        """The calls on each key, in the order of invocation."""
        keys: defaultdict[str, list[Call]] = defaultdict(list)
        for call in self._calls.values():
            keys[call.key].append(call)
        return keys

    def __len__(self) -> int:
        return len(self._calls)

    def _event(self) -> int:
        self._events += 1
        return self._events


def _short(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "…"
