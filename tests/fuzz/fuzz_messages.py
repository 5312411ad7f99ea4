"""What strangers send to the port: noise, broken Banana, commands of Perspective Broker in wrong shapes, calls with
wrong arguments, and sealed bodies that are broken, misplaced, hostile or sound.

An input is ``[port, slot, data, seconds]``: bytes for one of a few connections, then time that passes. Slot 0 is a
new connection that has not been greeted; the others are kept while the server keeps them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random
from typing import Any

from fuzz_servers import CONTROLLER_PORT, GID, GROUP_PORTS, endpoint
from fuzz_values import Values, bomb, broken, misplaced, one_of, seal, up_to, weighted
from msgspec.inspect import type_info
from twisted.spread import banana

from twisted_kv.codec import Codec
from twisted_kv.consensus.raft.messages import MESSAGES, Message
from twisted_kv.errors import WrongType
from twisted_kv.machines import commands
from twisted_kv.replica.doors import FORWARDED
from twisted_kv.transport import chunks, wire
from twisted_kv.transport.plain import to_jelly

GREETING = banana.encode(b"pb") + banana.encode([b"version", 6])
NOTHING = [b"dictionary"]
SLOTS = 4
PIECE_BYTES = (0, 1, 30, 1000, chunks.WIRE_PART_BYTES, chunks.WIRE_PART_BYTES + 1)

CLIENT_BODIES: dict[str, Any] = {
    wire.KV_WRITE: commands.Write,
    wire.KV_READ: commands.Read,
    wire.KV_OPEN: commands.Open,
    wire.KV_SCAN: commands.Scan,
    wire.SHARD_PULL: commands.PullRows,
    wire.SHARD_DROP: commands.Drop,
    wire.CTL_ENROLL: commands.Enroll,
    wire.CTL_CHANGE: commands.Administer,
    wire.CTL_QUERY: commands.QueryConfiguration,
    wire.CTL_CLAIM: commands.Claim,
    wire.WHO: wire.Who,
}
PEER_BODIES: dict[str, Any] = {
    wire.PEER_HELLO: wire.Hello,
    wire.PEER_STEP: wire.Step,
    wire.PEER_ROWS: wire.RowsRequest,
    **{FORWARDED + verb: body for verb, body in CLIENT_BODIES.items() if verb.startswith("ctl_")},
}
PLAIN = ("get", "put", "append", "delete", "put_hash", "status", "join", "leave", "move", "readdress", "query")
TRANSFERS = (chunks.PART, chunks.WHOLE, chunks.CANCEL, chunks.FETCH, chunks.FORGET, chunks.PING)
COMMANDS = (b"version", b"message", b"answer", b"error", b"decref", b"decache", b"cachemessage", b"didNotUnderstand")
TAGS = (
    b"None", b"boolean", b"unicode", b"list", b"tuple", b"dictionary", b"reference", b"dereference", b"set", b"class",
    b"module", b"function", b"method", b"instance", b"remote", b"local", b"cached", b"persistent", b"decimal",
    b"datetime", b"os.system", b"twisted_kv.errors.KVError",
)  # fmt: skip
ANY: Codec[Any] = Codec(object)


class Strangers:
    """Draws inputs.

    Args:
        peers: also legal messages between members, hostile ones. The fault model has no malicious members, so what
            they do to the state is not judged.
        incarnations: of the members, by node.
    """

    def __init__(self, random: Random, peers: bool, incarnations: Sequence[str]) -> None:
        self.random = random
        self._peers = peers
        texts = [*incarnations, *map(endpoint, GROUP_PORTS), "a", "b", "c", "honest"]
        self.values = Values(random, (0, 1, 2, 3, 5, 7, GID), texts)
        self._consensus = Values(random, (1, 1, 2, 2, 3, -1, -2, 6, 7, 8, 9, 20), texts)
        self._request = 0
        self._kinds = [
            (6.0, self._noise),
            (9.0, self._banana),
            (10.0, self._command),
            (15.0, self._jelly),
            (12.0, self._plain),
            (8.0, self._transfer),
            (40.0, self._body),
        ]

    def draw(self) -> list[Any]:
        """One input."""
        random = self.random
        ports = (CONTROLLER_PORT, *GROUP_PORTS)
        port = one_of(random, ports[1:3]) if self._peers and random.random() < 0.8 else one_of(random, ports)
        make = weighted(random, self._kinds)
        slot = 0 if make == self._noise else 1 + int(random.random() * (SLOTS - 1))
        data = make()
        if make != self._noise and random.random() < 0.05:
            slot, data = 0, GREETING + data
        # Time passes seldom: what an input does, it does at once.
        draw = random.random()
        seconds = one_of(random, (0.01, 0.06, 0.06, 0.4, 1.1)) if draw < 0.015 else 5.1 if draw < 0.016 else 0.0
        return [port, slot, data, 31.0 if draw > 0.9997 else seconds]

    # ── from outside to inside ─────────────────────────────────────────────────────────────────────

    def _noise(self) -> bytes:
        random = self.random
        draw = random.random()
        if draw < 0.3:
            return random.randbytes(1 + up_to(random, 600))
        if draw < 0.5:
            return broken(random, GREETING)
        if draw < 0.6:
            return b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
        return GREETING + random.randbytes(1 + up_to(random, 600))

    def _banana(self) -> bytes:
        """Valid elements in wrong places, and elements that are not valid."""
        random = self.random
        draw = random.random()
        if draw < 0.5:
            return _encoded(self._tree(0))
        if draw < 0.8:
            return broken(random, self._call(b"get", [b"tuple", b"k"]))
        element = one_of(random, (b"\x80", b"\x81", b"\x82", b"\x83", b"\x84", b"\x85", b"\x86", b"\x87", b"\x88"))
        digits = bytes([int(random.random() * 128) for _ in range(up_to(random, 12))])
        count = 1 + up_to(random, 3000)
        return one_of(random, ((digits + element) * count, b"\x01\x80" * count, digits + element + bytes(count)))

    def _command(self) -> bytes:
        """A command of Perspective Broker with anything behind it."""
        random = self.random
        name = one_of(random, COMMANDS)
        if name == b"message" and random.random() < 0.7:
            sound = [self._number(), b"root", one_of(random, (b"get", b"kv_read", b"x")), 1, [b"tuple"], NOTHING]
            sound[int(random.random() * 6)] = self._tree(2)
            return _encoded([name, *sound])
        return _encoded([name, *[self._tree(2) for _ in range(up_to(random, 6))]])

    def _jelly(self) -> bytes:
        """A call whose arguments are no plain values, or strange ones."""
        random = self.random
        names = (*PLAIN, *TRANSFERS, *CLIENT_BODIES, *PEER_BODIES, "__init__", "", "x" * 5000, "\x00\n\x1b[31m")
        keywords = NOTHING if random.random() < 0.7 else self._jellied(1)
        return self._call(one_of(random, names).encode(), self._jellied(0), keywords)

    def _plain(self) -> bytes:
        """A script's call, with as many arguments as it wants, of any plain kind."""
        random, values = self.random, self.values
        name = weighted(random, [(1.0, one_of(random, PLAIN[:6])), (1.0, one_of(random, PLAIN))])
        if name in ("join", "readdress", "leave", "move") and random.random() < 0.9:
            arguments: list[Any] = [one_of(random, (None, -1, "x", [], {}, {0: []}, {-1: ["a"]}, {1: "a"}, 1 << 62))]
            arguments *= 1 + int(random.random() * 2)
        elif random.random() < 0.6:
            arguments = [values.text(), *[values.anything() for _ in range(int(random.random() * 2.2))]]
        else:
            arguments = [values.anything() for _ in range(up_to(random, 3))]
        try:
            return self._call(name.encode(), to_jelly(tuple(arguments)))
        except WrongType:
            return self._call(name.encode(), [b"tuple"])

    def _transfer(self) -> bytes:
        random = self.random
        name = weighted(random, [(6.0, chunks.PART), (2.0, chunks.WHOLE), (2.0, one_of(random, TRANSFERS))])
        numbers = (0, 1, 1, 2, 2, 3, 63, 64, 65, -1, 1 << 62)
        upload, index, count = (one_of(random, numbers) for _ in range(3))
        if name == chunks.PART:
            if random.random() < 0.6:
                index, count = int(random.random() * 2), 2
            big = 5 if random.random() < 0.02 else 4
            arguments: tuple[Any, ...] = (upload, index, count, bytes(PIECE_BYTES[int(random.random() * big)]))
        elif name == chunks.WHOLE:
            arguments = (one_of(random, (*CLIENT_BODIES, "put", "x")), upload)
        else:
            arguments = (upload, index)[: 2 if name == chunks.FETCH else 1]
        if random.random() < 0.1:
            arguments = (*arguments[:-1], self.values.anything())
        try:
            return self._call(name.encode(), to_jelly(arguments))
        except WrongType:
            return self._call(name.encode(), [b"tuple", b"x"])

    def _body(self) -> bytes:
        """A sealed body for a verb: sound but hostile, or broken."""
        random = self.random
        hostile_peer = self._peers and random.random() < 0.7
        verb = one_of(random, tuple(PEER_BODIES if hostile_peer else CLIENT_BODIES))
        draw = random.random()
        if not self._peers and random.random() < 0.2:
            return self._unreadable()
        body = self.sealed(verb)
        if draw < 0.55:
            pass
        elif draw < 0.7:
            body = broken(random, body)
        elif draw < 0.85:
            body = seal(broken(random, body[5:]))
        elif draw < 0.97:
            body = seal(misplaced(random, body[5:]))
        elif draw < 0.995:
            body = self.sealed(one_of(random, tuple(CLIENT_BODIES)))
        else:
            body = seal(b"\x92\xa1w\x91\x96\xa1p\xa1k" + bomb(random)[:900_000] + b"\x01\x01\x01")
        return self._call(verb.encode(), [b"tuple", body])

    def _unreadable(self) -> bytes:
        """For the doors of members, what they can only refuse: cut short, or damaged under its seal."""
        random = self.random
        verb = one_of(random, tuple(PEER_BODIES))
        packed = self.sealed(verb)[5:]
        body = seal(packed[: int(random.random() * len(packed))])
        if random.random() < 0.5:
            sound = seal(packed)
            at = 1 + int(random.random() * (len(sound) - 1))
            body = sound[:at] + bytes([sound[at] ^ 1 << int(random.random() * 8)]) + sound[at + 1 :]
        return self._call(verb.encode(), [b"tuple", body])

    def sealed(self, verb: str) -> bytes:
        """A sound body for a verb, with any figures in it."""
        shape = CLIENT_BODIES.get(verb) or PEER_BODIES[verb]
        value = self.values.of(shape)
        if isinstance(value, wire.Step):
            value = self._step(value)
        elif isinstance(value, wire.Hello):
            value = self._hello(value)
        elif isinstance(value, commands.Administer) and self.random.random() < 0.97:
            # A change that is granted sends the shards away; it is drawn, but seldom.
            value = commands.Administer(0, value.sequence, value.floor, value.change)
        elif isinstance(value, commands.Open) and self.random.random() < 0.6:
            value = commands.Open(value.shards, bytes(16))
        return ANY.encode(value)

    def _step(self, step: wire.Step) -> wire.Step:
        """Messages that get as far as the core, most of the time."""
        random, values = self.random, self._consensus
        sender, to = one_of(random, (1, 2, 3, -1, -2, -3)), one_of(random, (1, 2, 3))
        messages = []
        for _ in range(1 + up_to(random, 2)):
            kind = one_of(random, Message.__args__)
            fields = [values.of_kind(field.type) for field in _fields(kind)[3:]]
            messages.append(kind(sender, to, values.number(), *fields))
        incarnation = values.text() if random.random() < 0.3 else f"{sender}"
        return wire.Step(GID, sender, incarnation, to, MESSAGES.encode(tuple(messages)))

    def _hello(self, hello: wire.Hello) -> wire.Hello:
        """As a member of this group would speak, but for one thing or another."""
        random = self.random
        voters = one_of(random, (hello.voters, (), ((1, "x"), (2, "x"), (3, "x")), ((1, "a"), (1, "b"))))
        own = ("group", GID, one_of(random, (1, 2, 3)), hello.incarnation, "raft", voters, hello.formed)
        given = list(own)
        if random.random() < 0.2:
            place = int(random.random() * len(own))
            given[place] = (hello.kind, hello.gid, hello.node, "", hello.consensus, hello.voters, True)[place]
        return wire.Hello(*given)

    def _call(self, name: bytes, arguments: Any, keywords: Any = NOTHING) -> bytes:
        target = b"root" if self.random.random() < 0.97 else one_of(self.random, (b"7", b"", b"root\x00"))
        answered = int(self.random.random() < 0.9)
        return _encoded([b"message", self._number(), target, name, answered, arguments, keywords])

    def _number(self) -> int:
        self._request += 1
        return self._request

    # ── trees ──────────────────────────────────────────────────────────────────────────────────────

    def _tree(self, depth: int) -> Any:
        """An expression of Banana."""
        random = self.random
        draw = random.random()
        if draw < 0.35 and depth < 20:
            return [self._tree(depth + 1) for _ in range(up_to(random, 6))]
        if draw < 0.6:
            return one_of(random, (*COMMANDS, *TAGS, b"", b"root", b"pb", random.randbytes(up_to(random, 40))))
        if draw < 0.9:
            return self.values.number()
        return one_of(random, (0.0, -1.5, float("nan"), float("inf"), 1 << 69, -(1 << 69), 1 << 400))

    def _jellied(self, depth: int) -> Any:
        """An expression that looks like jelly."""
        random = self.random
        if depth == 0 and random.random() < 0.8:
            return [b"tuple", *[self._jellied(1) for _ in range(up_to(random, 4))]]
        if random.random() < 0.6 and depth < 15:
            return [one_of(random, TAGS), *[self._jellied(depth + 1) for _ in range(up_to(random, 3))]]
        return self._tree(depth + 10)


def _encoded(expression: Any) -> bytes:
    """Banana without vocabulary, of any integer and any depth."""
    pieces: list[bytes] = []
    _encode(expression, pieces.append)
    return b"".join(pieces)


def _encode(expression: Any, write: Any) -> None:
    if type(expression) is bytes:
        write(_digits(len(expression)) + b"\x82" + expression)
    elif type(expression) is int:
        write(_digits(abs(expression)) + (b"\x83" if expression < 0 else b"\x81"))
    elif type(expression) is float:
        write(b"\x84" + struct.pack("!d", expression))
    else:
        write(_digits(len(expression)) + b"\x80")
        for part in expression:
            _encode(part, write)


def _digits(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F)
    return bytes(digits)


def _fields(kind: Any) -> Any:
    return type_info(kind).fields
