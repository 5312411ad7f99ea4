"""Errors on the wire: the one table between our errors and what Perspective Broker carries, both ways.

A stock client learns an error as ``pb.RemoteError`` with remoteType ``b"twisted_kv.errors.<Name>"`` and the text of
``KVError.described()``. What leaves is always the form of PB's own CopyableFailure, which every PB client knows:
a client that lacked the class would never get an answer. Anything that is not a KVError leaves as
"internal error", without its text: that could hold keys or values (hazards S12).

``NotSent`` and ``LostAnswer`` are what the network door says when no answer came; they never leave a process as such.
"""

from __future__ import annotations

import re
from typing import Final

from twisted_kv.errors import KVError, OutcomeUnknown, Unavailable, by_name
from twisted_kv.interfaces import LostAnswer, NotSent
from twisted_kv.transport.complaints import escaped, shown
from twisted_kv.transport.plain import Jelly, from_jelly, to_jelly

TEXT_MAX: Final = 2000

_MODULE: Final = "twisted_kv.errors."
_TAG: Final = b"twisted.spread.pb.CopyableFailure"
_DESCRIBED = re.compile(r"\w+: (?P<text>.*); (?P<outcome>definite|unknown); (?:retryable|final)", re.DOTALL)


def refusal(error: BaseException) -> KVError | None:
    """The error that a caller shall see for an exception; None: an unexpected one, see ``internal_error``."""
    if isinstance(error, KVError):
        return error
    if isinstance(error, NotSent):
        return Unavailable(str(error))
    if isinstance(error, LostAnswer):
        return OutcomeUnknown(str(error))
    return None


def internal_error() -> KVError:
    """What a caller sees of a bug: nothing but that it may have happened."""
    return OutcomeUnknown("internal error")


def to_wire(error: KVError) -> Jelly:
    """The s-expression that makes a stock client raise pb.RemoteError with our name and text."""
    text = escaped(error.described())
    if len(text) > TEXT_MAX:
        text = f"{text[: TEXT_MAX - 60]} … {text[-50:]}"
    kinds = [kind.__name__ for kind in type(error).__mro__ if issubclass(kind, KVError)]
    state = {
        "type": (_MODULE + kinds[0]).encode(),
        "value": text,
        "traceback": "Traceback unavailable\n",
        "parents": [_MODULE + kind for kind in kinds] + ["builtins.Exception"],
        "tb": None,
        "frames": [],
        "stack": [],
    }
    return [_TAG, to_jelly(state)]


def from_wire(jelly: Jelly) -> KVError:
    """The error that the other side named; OutcomeUnknown if it is none of ours, since it may mean anything."""
    try:
        tag, content = jelly
        state = from_jelly(content)
        kind = state["type"].decode()
        value = str(state["value"])
    except (KVError, LookupError, ValueError, TypeError, AttributeError):
        return OutcomeUnknown("the other side failed and did not say how")
    found = _DESCRIBED.fullmatch(value)
    if tag != _TAG or not kind.startswith(_MODULE) or found is None:
        return OutcomeUnknown(f"{shown(kind)}: {escaped(value[:TEXT_MAX])}")
    error = by_name(kind.removeprefix(_MODULE), found["text"])
    if error.definite and found["outcome"] == "unknown":
        return OutcomeUnknown(found["text"])
    return error
