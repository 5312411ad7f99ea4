"""The two messages of which nearly all traffic consists, written and read as a whole.

A call of a door carries one body, its answer another: the same dozen tokens each time, around bytes that nobody looks
at here. They are written from pieces and recognized by a pattern, for a third of what going from token to token costs.
The bytes are those that banana.py writes, and mean what it reads: whatever looks different in the least is left to it.

Sans-IO. How many bytes a message may have is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from twisted_kv.constants import WIRE_PART_BYTES
from twisted_kv.transport.banana import INT, LIST, STRING, VOCABULARY, Budget, encode, token

ITEMS: Final = 10
"""What the lists of a call declare together; an answer declares less."""
DEPTH: Final = 2

_WORD_BYTES_MAX: Final = max(map(len, VOCABULARY))
_NUMBERS_END: Final = 1 << 31


def _opening(count: int, word: bytes) -> bytes:
    """A list of so many items, and its first one."""
    return token(count, LIST) + encode(word)


_MESSAGE: Final = _opening(7, b"message")
_ANSWER: Final = _opening(3, b"answer")
_ROOT: Final = encode(b"root")
_ONE_ARGUMENT: Final = _opening(2, b"tuple")
_NO_KEYWORDS: Final = _opening(1, b"dictionary")

_CALLED: Final = re.compile(
    rb"%b([\0-\x7f]{1,5})\x81%b([\1-\x7f])\x82([a-z_]+)([\0\1])\x81%b([\0-\x7f]{1,4})\x82"
    % tuple(map(re.escape, (_MESSAGE, _ROOT, _ONE_ARGUMENT)))
).match
_ANSWERED: Final = re.compile(rb"%b([\0-\x7f]{1,5})\x81([\0-\x7f]{1,4})\x82" % re.escape(_ANSWER)).match


def written(expression: Sequence[Any]) -> bytes | None:
    """The bytes of a message of one of these shapes; None: it has to be written token by token."""
    kind, number, *rest = expression
    if kind == b"answer" and len(rest) == 1:
        pieces, [body], end = [_ANSWER], rest, b""
    elif kind == b"message" and len(rest) == 5 and rest[0] == b"root" and rest[4] == [b"dictionary"]:
        _, name, answered, arguments, _ = rest
        if arguments[0] != b"tuple" or len(arguments) != 2:
            return None
        pieces, body, end = [_MESSAGE, _named(name, answered)], arguments[1], _NO_KEYWORDS
    else:
        return None
    if type(body) is not bytes or not _WORD_BYTES_MAX < len(body) <= WIRE_PART_BYTES or number >= _NUMBERS_END:
        return None
    pieces.insert(1, token(number, INT))
    return b"".join((*pieces, token(len(body), STRING), body, end))


def recognized(data: bytes, start: int, budget: Budget) -> tuple[int, list[Any] | None] | None:
    """A message that begins here.

    Returns:
        None if it has another shape, or cannot be told from one yet, or may be beyond the budget in what its lists
        declare. Else where it ends, and its expression; or as far as it must be there to go on, and None.
    """
    if budget.items_max < ITEMS or budget.depth_max < DEPTH:
        return None
    found = _ANSWERED(data, start)
    if found is not None:
        begun, ended = found.end(), found.end() + _number(found[2])
        if ended > len(data):
            return ended, None
        return ended, [b"answer", _number(found[1]), data[begun:ended]]
    found = _CALLED(data, start)
    if found is None or len(found[3]) != found[2][0]:
        return None
    begun, ended = found.end(), found.end() + _number(found[5])
    if ended > len(data):
        return ended, None
    if not data.startswith(_NO_KEYWORDS, ended):
        return None
    arguments = [b"tuple", data[begun:ended]]
    expression = [b"message", _number(found[1]), b"root", found[3], found[4][0], arguments, [b"dictionary"]]
    return ended + len(_NO_KEYWORDS), expression


@cache
def _named(name: bytes, answered: int) -> bytes:
    """What stands between the number of a call and its body; there are few names."""
    return b"".join((_ROOT, encode(name), token(answered, INT), _ONE_ARGUMENT))


def _number(digits: bytes) -> int:
    number = 0
    for digit in reversed(digits):
        number = number << 7 | digit
    return number
