"""Target "parts": large bodies in parts, at the server's end (Uploads, Answers, Reserve) and at the caller's (collect).

Every call is compared with a model that keeps all parts in a dict. Judged: only KVErrors come out; a body is whole or
not there; what is counted is what is held, by piece and by byte, and never more than the reserve; all of it is given
back by expiry and by the end of a connection.
"""

from __future__ import annotations

from random import Random
from typing import Any

from fuzz_servers import Finding
from fuzz_targets import Target, Verdict
from fuzz_values import one_of, up_to
from twisted.internet.defer import Deferred, DeferredSemaphore, fail, succeed
from twisted.internet.task import Clock

from twisted_kv.constants import WIRE_BODY_BYTES_MAX, WIRE_PART_BYTES
from twisted_kv.errors import BadRequest, KVError
from twisted_kv.interfaces import LostAnswer
from twisted_kv.transport.chunks import (
    PARTS_MAX,
    UNFINISHED_MAX,
    UNTOUCHED_SECONDS,
    Answers,
    Reserve,
    Uploads,
    collect,
    part_count,
)

CONNECTIONS = 4
RESERVE = 3 * WIRE_PART_BYTES
NUMBERS = (0, 1, 1, 2, 2, 3, 4, -1, 1 << 62)
SIZES = (0, 1, 1, 2, 100, WIRE_PART_BYTES - 1, WIRE_PART_BYTES, WIRE_PART_BYTES + 1)
ALPHABET = bytes(range(256)) * (2 * WIRE_PART_BYTES // 256 + 1)
VERBS = (
    "part",
    "part",
    "part",
    "part",
    "take",
    "cancel",
    "release",
    "keep",
    "fetch",
    "fetch",
    "forget",
    "pass",
    "lose",
)


class Parts(Target):
    """Calls of several connections, interleaved."""

    name = "parts"
    share = 0.15
    life = 5_000

    def __init__(self, seed: int, life: int = 0) -> None:
        self._clock = Clock()
        self._reserve = Reserve(RESERVE)
        self._ends = [self._end() for _ in range(CONNECTIONS)]
        self._taken: list[bytes] = []
        self._model: dict[tuple[int, int], list[bytes]] = {}
        self._counts: dict[tuple[int, int], int] = {}
        self._kept: dict[tuple[int, int], bytes] = {}

    def draw(self, random: Random) -> list[Any]:
        if random.random() < 0.05:
            return ["collect", one_of(random, (0, 1, 5, -1, 1 << 40, 2 * WIRE_PART_BYTES, 3 * WIRE_PART_BYTES)),
                    [one_of(random, (0, 1, 2, 3, 4)) for _ in range(3)]]  # fmt: skip
        verb, at = one_of(random, VERBS), int(random.random() * CONNECTIONS)
        upload = one_of(random, NUMBERS)
        if verb == "part":
            known = self._model.get((at, upload))
            index, count = one_of(random, NUMBERS), one_of(random, (*NUMBERS, PARTS_MAX, PARTS_MAX + 1))
            if random.random() < 0.8:
                index = len(known or ())
                count = self._counts.get((at, upload), 1 + up_to(random, 4))
            size = SIZES[up_to(random, len(SIZES) - 1)]
            return [verb, at, upload, index, count, size, int(random.random() * 255)]
        if verb == "keep":
            return [verb, at, one_of(random, (0, 1, WIRE_PART_BYTES + 1, 2 * WIRE_PART_BYTES))]
        if verb == "pass":
            return [verb, one_of(random, (0.1, 1.0, UNTOUCHED_SECONDS / 2, UNTOUCHED_SECONDS + 1))]
        return [verb, at, upload, one_of(random, (0, 0, 1, 1, 2, -1, 1 << 62))]

    def feed(self, given: list[Any]) -> Verdict:
        verb, *arguments = given
        try:
            getattr(self, f"_{verb}")(*arguments)
        except KVError as error:
            self._agree()
            return Verdict(True, type(error).__name__)
        self._agree()
        return Verdict(True, verb)

    def finish(self) -> None:
        for at in range(CONNECTIONS):
            self._lose(at)
        while self._taken:
            self._release(0)
        if self._reserve.free != RESERVE:
            raise Finding(f"{RESERVE - self._reserve.free} bytes are never given back")

    # ── calls ──────────────────────────────────────────────────────────────────────────────────────

    def _part(self, at: int, upload: int, index: int, count: int, size: int, first: int) -> None:
        piece, key = ALPHABET[first : first + size], (at, upload)
        try:
            self._ends[at][0].part(upload, index, count, piece)
        except KVError:
            if key in self._model or index == 0:
                self._model.pop(key, None)
                self._counts.pop(key, None)
            raise
        held = self._model.setdefault(key, [])
        if index != len(held) or count != self._counts.setdefault(key, count) or not 0 < size <= WIRE_PART_BYTES:
            raise Finding(f"part {index} of {count} was taken after {len(held)} of {self._counts[key]}")
        held.append(piece)

    def _take(self, at: int, upload: int, _: int) -> None:
        body = self._ends[at][0].take(upload)
        key = (at, upload)
        if self._counts.pop(key) != len(self._model[key]) or b"".join(self._model.pop(key)) != body:
            raise Finding("a body is not what was sent")
        self._taken.append(body)

    def _release(self, at: int, *_: int) -> None:
        if self._taken:
            self._ends[at][0].release(self._taken.pop())

    def _cancel(self, at: int, upload: int, _: int) -> None:
        self._ends[at][0].cancel(upload)
        self._model.pop((at, upload), None)
        self._counts.pop((at, upload), None)

    def _keep(self, at: int, size: int) -> None:
        answer = ALPHABET[size % 200 : size % 200 + size]
        number, told = self._ends[at][1].keep(answer)
        if told != size:
            raise Finding(f"an answer of {size} bytes is announced with {told}")
        self._kept[at, number] = answer

    def _fetch(self, at: int, number: int, index: int) -> None:
        answer = self._kept.get((at, number))
        part = self._ends[at][1].fetch(number, index)
        if answer is None or index < 0 or part != answer[index * WIRE_PART_BYTES : (index + 1) * WIRE_PART_BYTES]:
            raise Finding(f"part {index} of answer {number} is another one's")
        if index == part_count(len(answer)) - 1:
            del self._kept[at, number]

    def _forget(self, at: int, number: int, _: int) -> None:
        self._ends[at][1].forget(number)
        self._kept.pop((at, number), None)

    def _pass(self, seconds: float) -> None:
        self._clock.advance(seconds)
        for uploads, answers in self._ends:
            uploads.expire()
            answers.expire()
        for at, (uploads, answers) in enumerate(self._ends):
            self._model = {
                key: held for key, held in self._model.items() if key[0] != at or key[1] in uploads._unfinished
            }
            self._kept = {key: held for key, held in self._kept.items() if key[0] != at or key[1] in answers._kept}
        self._counts = {key: count for key, count in self._counts.items() if key in self._model}
        if seconds > UNTOUCHED_SECONDS and (self._model or self._kept):
            raise Finding("what nobody has touched does not expire")

    def _lose(self, at: int, *_: int) -> None:
        for end in self._ends[at]:
            end.clear()
        self._ends[at] = self._end()
        for table in (self._model, self._counts, self._kept):
            for key in [key for key in table if key[0] == at]:
                del table[key]  # type: ignore[attr-defined]

    def _collect(self, size: int, kinds: list[int]) -> None:
        """The caller's end, before a server that answers anything."""
        answers: dict[int, Any] = {0: bytes(WIRE_PART_BYTES), 1: b"", 2: None, 3: BadRequest("no"), 4: (1, 2)}

        def call(*arguments: Any, **keywords: Any) -> Deferred[Any]:
            answer = answers[kinds[arguments[-1] % len(kinds)]]
            return fail(answer) if isinstance(answer, Exception) else succeed(answer)

        ended: list[Any] = []
        Deferred.fromCoroutine(collect(call, DeferredSemaphore(2), 1, size)).addBoth(ended.append)
        [result] = ended
        if isinstance(result, bytes):
            if len(result) != size:
                raise Finding(f"{size} bytes were announced, {len(result)} collected")
        elif not isinstance(result.value, LostAnswer):
            raise Finding(f"collect fails with {result.value!r}")

    # ── the model ──────────────────────────────────────────────────────────────────────────────────

    def _end(self) -> tuple[Uploads, Answers]:
        return Uploads(self._reserve, self._clock), Answers(self._reserve, self._clock)

    def _agree(self) -> None:
        held = sum(map(len, self._taken)) + sum(map(len, self._kept.values()))
        for key, pieces in self._model.items():
            held += sum(map(len, pieces))
            if len(pieces) > PARTS_MAX or sum(map(len, pieces)) > WIRE_BODY_BYTES_MAX:
                raise Finding(f"{len(pieces)} parts of one body are held")
            if key[1] not in self._ends[key[0]][0]._unfinished:
                raise Finding("an upload was forgotten though nothing was wrong with it")
        if RESERVE - self._reserve.free != held or self._reserve.free < 0:
            raise Finding(f"{held} bytes are held, {RESERVE - self._reserve.free} are counted")
        for uploads, answers in self._ends:
            if len(uploads._unfinished) > UNFINISHED_MAX or len(answers._kept) > UNFINISHED_MAX:
                raise Finding("more transfers than are allowed")
