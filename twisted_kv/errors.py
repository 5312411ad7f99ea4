"""Every error a user can meet, what it says about the write, and who can act on it.

``definite`` answers *did it happen?*: True means that it did not and will not, False that
it may have happened. ``retryable`` answers *is it worth asking again?*. The class name is
the wire name; ``by_name`` finds the class again on the other side.

This module knows nothing of how an error travels (that is transport/faults).
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BadRequest",
    "GroupExists",
    "KVError",
    "KeyTooLong",
    "NoSuchGroup",
    "NoSuchShard",
    "NotAuthorized",
    "OutcomeUnknown",
    "Overloaded",
    "StartRefused",
    "Unavailable",
    "ValueTooLarge",
    "WrongType",
    "by_name",
]


class KVError(Exception):
    """The root of all errors of this store.

    Attributes:
        definite: True if the operation did not happen and never will.
        retryable: True if the same call may succeed later.
    """

    definite: ClassVar[bool] = True
    retryable: ClassVar[bool] = False

    @property
    def text(self) -> str:
        """What happened, in one line, without the name of the class."""
        return str(self.args[0]) if self.args else ""

    def described(self) -> str:
        """The form in which a plain Perspective Broker client reads an error.

        >>> Unavailable("no leader answered within 10 s").described()
        'Unavailable: no leader answered within 10 s; definite; retryable'
        """
        outcome = "definite" if self.definite else "unknown"
        again = "retryable" if self.retryable else "final"
        return f"{type(self).__name__}: {self.text}; {outcome}; {again}"


class OutcomeUnknown(KVError):
    """Some attempt may have entered a log and none was settled; it took effect once or never.

    The caller can act: read the key, then decide. Never raised for a get.
    """

    definite = False


class Unavailable(KVError):
    """Nothing entered a log within the timeout; the caller may try again."""

    retryable = True


class Overloaded(KVError):
    """The server refused to queue more; nothing happened.

    Attributes:
        retry_after: seconds after which the server expects to have room.
    """

    retryable = True

    def __init__(self, text: str = "the server has no room for more requests", retry_after: float = 0.1) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class NotAuthorized(KVError):
    """The caller may not do this; an administrator can grant it."""


class BadRequest(KVError):
    """The request cannot be carried out as it stands; the caller must change it."""


class KeyTooLong(BadRequest):
    """A key is 1 to 4,096 bytes of UTF-8."""


class ValueTooLarge(BadRequest):
    """The value, or the result of an append, is beyond the limit of this cluster."""


class WrongType(BadRequest):
    """A key that is not text, a value that is neither text nor bytes, or the two mixed in an append."""


class NoSuchGroup(BadRequest):
    """The group is not in the newest configuration."""


class NoSuchShard(BadRequest):
    """The shard number, or the configuration number, is out of range."""


class GroupExists(BadRequest):
    """A group of this gid is there already, with other servers."""


class StartRefused(KVError):
    """A server cannot start on this directory or with these options; the operator can act.

    Raised before anything was changed. Not met by clients.
    """


def _all_kinds(root: type[KVError]) -> dict[str, type[KVError]]:
    kinds = {root.__name__: root}
    for kind in root.__subclasses__():
        kinds.update(_all_kinds(kind))
    return kinds


_BY_NAME = _all_kinds(KVError)


def by_name(name: str, text: str) -> KVError:
    """The error that a peer named, rebuilt here; a name of a newer version becomes a plain KVError.

    >>> by_name("KeyTooLong", "5000 bytes")
    KeyTooLong('5000 bytes')
    """
    return _BY_NAME.get(name, KVError)(text)
