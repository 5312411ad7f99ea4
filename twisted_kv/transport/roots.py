"""What a connection can reach: one root object, made of doors and plain names, and nothing else.

A *door* takes one sealed body and answers one (wire.py has the verbs). A *plain* name takes and answers plain
values, for scripts that import nothing of ours. Only the names in the two tables can be called, never an
attribute. Each connection gets its own root, which also holds its unfinished transfers (chunks.py).

Refuses bodies that are not bytes and arguments that do not fit the signature, before anything is called.
What a door or a plain name does is not known here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.spread import pb

from twisted_kv.constants import WIRE_PART_BYTES
from twisted_kv.errors import BadRequest, WrongType
from twisted_kv.interfaces import Door
from twisted_kv.transport import chunks
from twisted_kv.transport.chunks import Answers, Reserve, Uploads
from twisted_kv.transport.complaints import escaped, shown
from twisted_kv.transport.plain import Jelly, PlainValue, from_jelly, to_jelly

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

Plain = Callable[..., "Deferred[PlainValue]"]

_NO_KEYWORDS: list[bytes] = [b"dictionary"]


class DoorRoot(pb.Root):
    """The root of a server, from which every connection gets its own.

    Args:
        doors: verb → door.
        plain: remote name → a callable that returns a Deferred of a plain value; its signature is the contract.
            Both tables are looked up at each call: a server may be furnished after its port is known.
        clock: for the expiry of transfers.
        reserve: memory for the large bodies of all connections.
    """

    def __init__(
        self, doors: Mapping[str, Door], plain: Mapping[str, Plain], clock: IReactorTime, reserve: Reserve | None = None
    ) -> None:
        assert not doors.keys() & plain.keys(), "a name is a door or plain, not both"
        self._doors = doors
        self._plain = plain
        self._clock = clock
        self.reserve = reserve or Reserve()

    def rootObject(self, broker: Any) -> ConnectionRoot:
        uploads, answers = Uploads(self.reserve, self._clock), Answers(self.reserve, self._clock)
        return ConnectionRoot(self._doors, self._plain, uploads, answers)


class ConnectionRoot(pb.Referenceable):
    """The root as one connection sees it."""

    def __init__(
        self,
        doors: Mapping[str, Door],
        plain: Mapping[str, Plain],
        uploads: Uploads,
        answers: Answers,
    ) -> None:
        self._doors = doors
        self._plain = plain
        self._uploads = uploads
        self._answers = answers
        self._transfers: dict[str, tuple[tuple[type, ...], Callable[..., Any]]] = {
            chunks.PART: ((int, int, int, bytes), uploads.part),
            chunks.WHOLE: ((str, int), self._whole),
            chunks.CANCEL: ((int,), uploads.cancel),
            chunks.FETCH: ((int, int), answers.fetch),
            chunks.FORGET: ((int,), answers.forget),
            chunks.PING: ((), lambda: None),
        }

    def remoteMessageReceived(self, broker: Any, message: bytes, args: Jelly, kw: Jelly) -> Any:
        """Carry out one call; arguments and result are jelly. Returns the result or a Deferred of it.

        Raises:
            BadRequest: there is no such name, or the arguments do not fit.
        """
        name = message.decode("utf-8", "replace")
        door = self._doors.get(name)
        if door is not None:
            if type(args) is not list or len(args) != 2 or type(args[1]) is not bytes or kw != _NO_KEYWORDS:
                raise BadRequest(f"{name} takes one sealed body")
            return self._enter(door, args[1])
        if name in self._plain:
            return self._call_plain(name, args, kw)
        if name in self._transfers:
            return self._transfer(name, args)
        raise BadRequest(f"there is no remote name {shown(name)}")

    def expire(self) -> None:
        """Forget transfers that nobody has touched for long."""
        self._uploads.expire()
        self._answers.expire()

    def connection_lost(self) -> None:
        """Forget all transfers."""
        self._uploads.clear()
        self._answers.clear()

    def _enter(self, door: Door, body: bytes) -> Deferred[Jelly]:
        return door(body).addCallback(self._small_or_kept)

    def _small_or_kept(self, answer: bytes) -> Jelly:
        assert type(answer) is bytes, "a door answers bytes"
        return answer if len(answer) <= WIRE_PART_BYTES else to_jelly(self._answers.keep(answer))

    def _call_plain(self, name: str, args: Jelly, kw: Jelly) -> Any:
        function = self._plain[name]
        positional, keywords = from_jelly(args), from_jelly(kw)
        if type(positional) is not tuple or type(keywords) is not dict or not all(type(key) is str for key in keywords):
            raise BadRequest("a malformed call")
        try:
            inspect.signature(function).bind(*positional, **keywords)
        except TypeError as error:
            raise BadRequest(f"wrong arguments for {name}: {escaped(str(error))[:200]}") from None
        result = function(*positional, **keywords)
        return result.addCallback(_answered) if isinstance(result, Deferred) else _answered(result)

    def _transfer(self, name: str, args: Jelly) -> Any:
        types, act = self._transfers[name]
        arguments = from_jelly(args)
        if type(arguments) is not tuple or tuple(map(type, arguments)) != types:
            raise BadRequest(f"wrong arguments for {name}")
        result = act(*arguments)
        return result if isinstance(result, Deferred) else to_jelly(result)

    def _whole(self, verb: str, upload: int) -> Deferred[Jelly]:
        door = self._doors.get(verb)
        if door is None:
            self._uploads.cancel(upload)
            raise BadRequest(f"there is no remote name {shown(verb)}")
        body = self._uploads.take(upload)

        def released(result: Any) -> Any:
            self._uploads.release(body)
            return result

        try:
            entered = self._enter(door, body)
        except BaseException:
            self._uploads.release(body)
            raise
        return entered.addBoth(released)


def _answered(result: PlainValue) -> Jelly:
    """The jelly of an answer. One that is not plain is our bug, and what was asked has been done."""
    try:
        return to_jelly(result)
    except WrongType as error:
        raise AssertionError(f"a plain name answered {type(result).__name__}") from error
