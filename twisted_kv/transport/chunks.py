"""How a body beyond WIRE_PART_BYTES crosses: in parts, so that small bodies overtake it, and whole or not at all.

A large request: its parts go one by one (``wire_part``), each answered; then ``wire_whole`` names the verb and the
upload, and only that call has an effect. A large answer: the server keeps it and answers (number, size) instead;
the caller fetches its parts (``wire_fetch``). Who loses interest says so (``wire_cancel``, ``wire_forget``), one way.
At most PARTS_IN_FLIGHT parts of all transfers of a link are under way, so nothing small waits behind more than that.

At the server everything unfinished belongs to one connection: it is bounded in number there, in bytes for all
connections together, expires when untouched, and goes with the connection.

Source: scenarios §3.6-50 (a chunked transfer is atomic at the receiver), ecosystem §1.6. Knows nothing of verbs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore, gatherResults
from twisted.python.failure import Failure

from twisted_kv.constants import WIRE_BODY_BYTES_MAX, WIRE_PART_BYTES
from twisted_kv.errors import BadRequest, KVError, OutcomeUnknown, Overloaded
from twisted_kv.interfaces import LostAnswer, NotSent

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

PART: Final = "wire_part"  # upload, index, count, bytes → None
WHOLE: Final = "wire_whole"  # verb, upload → what the verb answers
CANCEL: Final = "wire_cancel"  # upload, one way
FETCH: Final = "wire_fetch"  # answer, index → bytes
FORGET: Final = "wire_forget"  # answer, one way
PING: Final = "wire_ping"  # nothing → None

PARTS_IN_FLIGHT: Final = 2
UNFINISHED_MAX: Final = 64
UNTOUCHED_SECONDS: Final = 30.0
RESERVE_BYTES: Final = 6 * WIRE_BODY_BYTES_MAX
PARTS_MAX: Final = 2 * WIRE_BODY_BYTES_MAX // WIRE_PART_BYTES
"""Of one body. Without it, a body in parts of two bytes would take twenty times the memory that is counted for it."""

Call = Callable[..., "Deferred[Any]"]
"""callRemote of the root: a verb and plain arguments."""


class Reserve:
    """Memory that all transfers of a server share."""

    def __init__(self, bytes_max: int = RESERVE_BYTES) -> None:
        self._bytes_max = bytes_max
        self.free = bytes_max

    @property
    def taken(self) -> int:
        """Bytes that were taken and not given back."""
        return self._bytes_max - self.free

    def take(self, size: int) -> None:
        """Raises Overloaded when there is not that much left."""
        if size > self.free:
            raise Overloaded("no room for more large bodies")
        self.free -= size

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self.free += size


# ── the server's end ───────────────────────────────────────────────────────────────────────────────


class _Upload:
    def __init__(self, count: int) -> None:
        self.count = count
        self.pieces: list[bytes] = []
        self.size = 0
        self.touched_at = 0.0


class Uploads:
    """Large requests of one connection that are on their way in."""

    def __init__(self, reserve: Reserve, clock: IReactorTime) -> None:
        self._reserve = reserve
        self._clock = clock
        self._unfinished: dict[int, _Upload] = {}

    def part(self, upload: int, index: int, count: int, piece: bytes) -> None:
        """Take the next part.

        Raises:
            BadRequest: not the next one, or beyond the limits; what had come of this upload is forgotten.
            Overloaded: no room now; likewise.
        """
        unfinished = self._unfinished.get(upload)
        if unfinished is None and index == 0:
            if len(self._unfinished) >= UNFINISHED_MAX:
                raise Overloaded("too many large requests at once on one connection")
            unfinished = self._unfinished[upload] = _Upload(count)
        if unfinished is None:
            raise BadRequest("a part of an unknown request")
        try:
            if not (index == len(unfinished.pieces) < count == unfinished.count <= PARTS_MAX):
                raise BadRequest("a part out of order, or of too many")
            if not 0 < len(piece) <= WIRE_PART_BYTES or unfinished.size + len(piece) > WIRE_BODY_BYTES_MAX:
                raise BadRequest(f"a body of more than {WIRE_BODY_BYTES_MAX} bytes, or a part of a wrong size")
            self._reserve.take(len(piece))
        except KVError:
            self.cancel(upload)
            raise
        unfinished.pieces.append(piece)
        unfinished.size += len(piece)
        unfinished.touched_at = self._clock.seconds()

    def take(self, upload: int) -> bytes:
        """The whole body. Its bytes stay counted until ``release``.

        Raises:
            BadRequest: unknown, expired, or parts are missing.
        """
        unfinished = self._unfinished.get(upload)
        if unfinished is None or len(unfinished.pieces) < unfinished.count:
            raise BadRequest("parts of the request are missing")
        del self._unfinished[upload]
        return b"".join(unfinished.pieces)

    def release(self, body: bytes) -> None:
        """A body that was taken is no longer in use."""
        self._reserve.give(len(body))

    def cancel(self, upload: int) -> None:
        """The caller has lost interest."""
        unfinished = self._unfinished.pop(upload, None)
        if unfinished is not None:
            self._reserve.give(unfinished.size)

    def expire(self) -> None:
        """Forget what has not been touched for long."""
        before = self._clock.seconds() - UNTOUCHED_SECONDS
        for upload in [key for key, unfinished in self._unfinished.items() if unfinished.touched_at < before]:
            self.cancel(upload)

    def clear(self) -> None:
        """The connection is gone."""
        for upload in tuple(self._unfinished):
            self.cancel(upload)


class Answers:
    """Large answers of one connection that wait to be fetched."""

    def __init__(self, reserve: Reserve, clock: IReactorTime) -> None:
        self._reserve = reserve
        self._clock = clock
        self._kept: dict[int, tuple[bytes, float]] = {}
        self._last = 0
        self._open = True

    def keep(self, answer: bytes) -> tuple[int, int]:
        """Keep an answer; returns its number and size.

        Raises:
            OutcomeUnknown: no room for it. (The call was carried out, so Overloaded would be a lie.)
        """
        if not self._open or len(self._kept) >= UNFINISHED_MAX or len(answer) > WIRE_BODY_BYTES_MAX:
            raise OutcomeUnknown("the answer cannot be kept for fetching")
        try:
            self._reserve.take(len(answer))
        except Overloaded as error:
            raise OutcomeUnknown(error.text) from None
        self._last += 1
        self._kept[self._last] = (answer, self._clock.seconds())
        return self._last, len(answer)

    def fetch(self, number: int, index: int) -> bytes:
        """Part ``index`` of an answer, which is forgotten with its last part.

        Raises:
            BadRequest: there is no such answer or part (any more).
        """
        answer, _ = self._kept.get(number, (b"", 0.0))
        if not 0 <= index < part_count(len(answer)):
            raise BadRequest("there is no such part of an answer")
        self._kept[number] = (answer, self._clock.seconds())
        if index == part_count(len(answer)) - 1:
            self.forget(number)
        return answer[index * WIRE_PART_BYTES : (index + 1) * WIRE_PART_BYTES]

    def forget(self, number: int) -> None:
        """The caller has lost interest."""
        answer, _ = self._kept.pop(number, (b"", 0.0))
        self._reserve.give(len(answer))

    def expire(self) -> None:
        """Forget what has not been touched for long."""
        before = self._clock.seconds() - UNTOUCHED_SECONDS
        for number in [key for key, (_, touched_at) in self._kept.items() if touched_at < before]:
            self.forget(number)

    def clear(self) -> None:
        """The connection is gone: forget everything, and keep nothing more."""
        self._open = False
        for number in tuple(self._kept):
            self.forget(number)


# ── the caller's end ───────────────────────────────────────────────────────────────────────────────


async def hand_over(call: Call, slots: DeferredSemaphore, upload: int, body: bytes) -> None:
    """Send a large request in parts; ends when the other side has all of them, and nothing has happened there.

    Args:
        call: callRemote of the root.
        slots: the parts in flight of this link, shared by its transfers, which thus take turns.
        upload: a number not used on this connection before.
    Raises:
        NotSent: some part did not arrive.
        CancelledError: it was cancelled; the other side is told.
    """
    count = part_count(len(body))

    def sent(index: int) -> Deferred[Any]:
        return call(PART, upload, index, count, body[index * WIRE_PART_BYTES : (index + 1) * WIRE_PART_BYTES])

    try:
        await _in_turns(sent, count, slots)
    except CancelledError:
        call(CANCEL, upload, pbanswer=False)
        raise
    except (KVError, LostAnswer, NotSent) as error:
        raise NotSent(f"a part of the request did not arrive: {error}") from None


async def collect(call: Call, slots: DeferredSemaphore, number: int, size: int) -> bytes:
    """Fetch a large answer in parts.

    Args:
        call, slots: as for ``hand_over``.
        number, size: what the other side said in place of the answer.
    Raises:
        LostAnswer: some part did not come, or the parts are not what was announced.
        CancelledError: it was cancelled; the other side is told.
    """
    if not 0 < size <= WIRE_BODY_BYTES_MAX:
        raise LostAnswer(f"an answer of {size} bytes was announced")
    try:
        pieces = await _in_turns(lambda index: call(FETCH, number, index), part_count(size), slots)
    except CancelledError:
        call(FORGET, number, pbanswer=False)
        raise
    except (KVError, LostAnswer, NotSent) as error:
        raise LostAnswer(f"a part of the answer did not come: {error}") from None
    if sum(len(piece) if type(piece) is bytes else 0 for piece in pieces) != size:
        raise LostAnswer("the parts of the answer are not what was announced")
    return b"".join(pieces)


def part_count(size: int) -> int:
    """How many parts a body of this size crosses in.

    >>> part_count(WIRE_PART_BYTES), part_count(WIRE_PART_BYTES + 1)
    (1, 2)
    """
    return -(-size // WIRE_PART_BYTES)


async def _in_turns(call: Callable[[int], Deferred[Any]], count: int, slots: DeferredSemaphore) -> list[Any]:
    """Make ``count`` calls, each in a slot; returns what they answered, in order. The first failure ends it."""
    answers: list[Any] = [None] * count
    failures: list[BaseException | None] = []

    def answered(result: Any, index: int) -> None:
        if isinstance(result, Failure):
            failures.append(result.value)
        else:
            answers[index] = result
        slots.release()

    under_way: list[Deferred[None]] = []
    for index in range(count):
        await slots.acquire()
        if failures:
            slots.release()
            break
        under_way.append(call(index).addBoth(answered, index))
    await gatherResults(under_way)
    if failures:
        assert failures[0] is not None
        raise failures[0]
    return answers
