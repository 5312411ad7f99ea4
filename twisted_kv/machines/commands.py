"""What can be asked of a machine, what it answers, and what it leaves to be done: values only.

A copy is named (shard, num), num being the configuration by which its holder gained it (Holder.num).

Three families: *commands* stand in a log and are applied; *queries* are answered from the applied state;
*chores* are what a machine wants its leader to do. A command that depended on anything but the log and the
state would part the replicas, so whatever a command needs (a configuration, rows, a name) is inside it.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

from twisted_kv.codec import Codec, Malformed
from twisted_kv.constants import COMMAND_BYTES_MAX, SHARDS_MAX
from twisted_kv.machines.configuration import Configuration, Holder
from twisted_kv.machines.rows import BEGINNING, Cursor, Row, Value

OPERATIONS_PER_REQUEST_MAX: Final = 10_000

# ── operations on keys ─────────────────────────────────────────────────────────────────────────────


class Operation(msgspec.Struct, frozen=True, array_like=True):
    """One write of a client.

    Attributes:
        verb: "p" put, "a" append, "d" delete, "h" put_hash.
        key: 1 … KEY_BYTES_MAX bytes of UTF-8.
        value: str or bytes; None for delete.
        session: the number that Open gave for the key's shard.
        sequence: the client's number of this operation in that session, from 1, unchanged over retries.
        floor: the lowest sequence whose answer the client still wants.
    """

    verb: Literal["p", "a", "d", "h"]
    key: str
    value: Value | None
    session: int
    sequence: int
    floor: int


class Done(msgspec.Struct, frozen=True, array_like=True, tag="ok"):
    """It took effect, once. The value: None for put and append, bool for delete, the old value for put_hash;
    for a read the value, None when absent."""

    value: Any = None


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="no"):
    """It did not happen and will not. ``error`` names a class of twisted_kv.errors."""

    error: str
    text: str


class WrongGroup(msgspec.Struct, frozen=True, array_like=True, tag="wg"):
    """Not executed: this group does not serve the shard now.

    Attributes:
        num: the configuration this group is at.
        gid: who serves it as far as this group knows, 0 if it cannot tell (ask the controller).
    """

    num: int
    gid: int


class Expired(msgspec.Struct, frozen=True, array_like=True, tag="ex"):
    """Not executed now: the session is unknown here, or the sequence is below its floor. Whether an earlier
    attempt of the same request was executed, nobody knows any more."""


Outcome = Done | Refused | WrongGroup | Expired

# ── commands of a group ────────────────────────────────────────────────────────────────────────────


class Write(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    """Operations in order. Reply: a tuple of Outcomes, one each."""

    operations: tuple[Operation, ...]


class Open(msgspec.Struct, frozen=True, array_like=True, tag="o"):
    """Open a session in each of these shards; ``nonce`` (16 random bytes) makes a repeat find the same one.
    Reply: a tuple, per shard Done(number) or WrongGroup."""

    shards: Annotated[tuple[int, ...], msgspec.Meta(max_length=SHARDS_MAX)]
    nonce: bytes


class Configure(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """Move on to this configuration. Ignored unless it is the next one and nothing holds it back.

    Attributes:
        cluster: the controller's cluster id; the first one seen is kept, another is refused.
        mine: whether the member of this group's gid in it is this very group (the claim was granted).
    """

    cluster: str
    configuration: Configuration
    mine: bool


class Install(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """Chunk ``chunk`` (from 0) of a copy that is being pulled. Ignored unless it is the next one.

    Attributes:
        shard, num: the copy, by its taker's name for it.
        rows: their space, name and value; without a value it is gone by now.
        cursor, level, last, total_bytes: as in PullAnswer.
    """

    shard: int
    num: int
    chunk: int
    rows: tuple[Row, ...]
    cursor: Cursor
    level: bool
    last: bool
    total_bytes: int


class Freeze(msgspec.Struct, frozen=True, array_like=True, tag="f"):
    """Serve the copy no longer: HANDING becomes LEAVING."""

    shard: int
    num: int


class Drop(msgspec.Struct, frozen=True, array_like=True, tag="d"):
    """The taker has it: LEAVING becomes ABSENT, rows deleted. Reply: Done(True), also if it was gone already;
    Done(False) if the copy is there but not LEAVING (the drop is early; ask again)."""

    shard: int
    num: int


class Dropped(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """The giver has confirmed the drop of its copy: it is owed no longer."""

    shard: int
    num: int


GroupCommand = Write | Open | Configure | Install | Freeze | Drop | Dropped

# ── commands of a controller ───────────────────────────────────────────────────────────────────────


class Found(msgspec.Struct, frozen=True, array_like=True, tag="F"):
    """The cluster begins: its random id, its number of shards, its limit. The first one stays.
    Reply: Done(cluster id)."""

    cluster: str
    shards: int
    value_bytes_max: int


class Join(msgspec.Struct, frozen=True, array_like=True, tag="J"):
    """gid → endpoints, ascending by gid; ``identities`` gid → group id where a probe learned it."""

    groups: tuple[tuple[int, tuple[str, ...]], ...]
    identities: tuple[tuple[int, str], ...] = ()


class Leave(msgspec.Struct, frozen=True, array_like=True, tag="L"):
    """These groups leave; their shards are spread over those that stay."""

    gids: tuple[int, ...]


class Move(msgspec.Struct, frozen=True, array_like=True, tag="M"):
    """One shard to one group; nothing else is rebalanced."""

    shard: int
    gid: int


class Readdress(msgspec.Struct, frozen=True, array_like=True, tag="R"):
    """A known group has new endpoints; nothing moves."""

    gid: int
    endpoints: tuple[str, ...]


Change = Join | Leave | Move | Readdress


class Enroll(msgspec.Struct, frozen=True, array_like=True, tag="E"):
    """Open an administrator's session. Reply: Done(number)."""

    nonce: bytes


class Administer(msgspec.Struct, frozen=True, array_like=True, tag="A"):
    """A change, at most once by (session, sequence). Reply: Configured, or Refused or Expired."""

    session: int
    sequence: int
    floor: int
    change: Change


class Configured(msgspec.Struct, frozen=True, array_like=True, tag="cf"):
    """The configuration that a change made, or the newest one if there was nothing to change."""

    configuration: Configuration


class Claim(msgspec.Struct, frozen=True, array_like=True, tag="C"):
    """The replica group ``identity`` says that it is the member (gid, joined). The first claim stays.
    Reply: Done(identity of the one that has it), Refused if there was no such member ever."""

    gid: int
    joined: int
    identity: str


ControllerCommand = Found | Enroll | Administer | Claim

GROUP_COMMANDS: Codec[GroupCommand] = Codec(GroupCommand, COMMAND_BYTES_MAX)
CONTROLLER_COMMANDS: Codec[ControllerCommand] = Codec(ControllerCommand, COMMAND_BYTES_MAX)

# ── queries: answered from applied state ───────────────────────────────────────────────────────────


class Read(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """Values of keys. Answer: a tuple of Outcomes: Done(value or None), WrongGroup, or Refused."""

    keys: Annotated[tuple[str, ...], msgspec.Meta(max_length=OPERATIONS_PER_REQUEST_MAX)]


class Scan(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """Keys of one shard in order, after a key (None: from the first), about bytes_max of keys and values.
    Answer: Scanned or WrongGroup."""

    shard: int
    after: str | None
    bytes_max: int


class Scanned(msgspec.Struct, frozen=True, array_like=True, tag="sa"):
    """Keys ascending, their values beside them; ``last``: there are no more."""

    keys: tuple[str, ...]
    values: tuple[Any, ...]
    last: bool


class QueryConfiguration(msgspec.Struct, frozen=True, array_like=True, tag="q"):
    """Configuration ``num`` (-1 or beyond the newest: the newest), and who has claimed the member ``gid``
    in it. Answer: a ConfigurationAnswer, or Refused for other negative numbers."""

    num: int
    gid: int = 0


class ConfigurationAnswer(msgspec.Struct, frozen=True, array_like=True, tag="qa"):
    """``cluster`` is empty until the controller was founded; ``claimed_by`` is empty until claimed."""

    cluster: str
    configuration: Configuration
    claimed_by: str


class PullRows(msgspec.Struct, frozen=True, array_like=True, tag="pl"):
    """Rows of the copy (shard, num) beyond a cursor. Answer: a PullAnswer.

    Attributes:
        bytes_max: about so many; a single row may be larger.
        hand: the taker wants the copy frozen, and the rest.
    """

    shard: int
    num: int
    cursor: Cursor
    bytes_max: int
    hand: bool


class PullAnswer(msgspec.Struct, frozen=True, array_like=True, tag="pa"):
    """What a giver says.

    Attributes:
        state: "rows": of a frozen copy; "ahead": of one that is served, so only a leader should say them; "sorting":
            ask again in the next turn; "handing": it is time to log Freeze, and to ask again then; "wait": behind,
            ask again later; "gone": the copy was dropped, the taker must have had it. Sorting and handing stay
            within the server.
        cursor: where to go on.
        level: nothing stands beyond the cursor at the moment.
        last: nor ever will, for the copy is frozen.
        total_bytes: of all keys and values of the copy.
    """

    state: Literal["rows", "ahead", "sorting", "handing", "wait", "gone"]
    rows: tuple[Row, ...] = ()
    cursor: Cursor = BEGINNING
    level: bool = False
    last: bool = False
    total_bytes: int = 0


# ── chores: derived from state, harmless when repeated ─────────────────────────────────────────────


class NextConfiguration(msgspec.Struct, frozen=True):
    """Nothing holds back configuration ``num``: fetch it and log Configure."""

    num: int


class Pull(msgspec.Struct, frozen=True):
    """Fetch chunk ``chunk`` of copy (shard, num) from ``source`` at ``endpoints``, beyond ``cursor``, and log it;
    with ``hand``, have it frozen; ``hurried``: do not rest."""

    shard: int
    num: int
    source: Holder
    endpoints: tuple[str, ...]
    chunk: int
    cursor: Cursor
    hand: bool
    hurried: bool


class HandOver(msgspec.Struct, frozen=True):
    """Copy (shard, num) is HANDING to ``taker``: freeze it when the taker wants it, or does not ask for long."""

    shard: int
    num: int
    taker: Holder


class AskDrop(msgspec.Struct, frozen=True):
    """Copy (shard, num) of ``source`` was taken over: have it dropped there, then log Dropped."""

    shard: int
    num: int
    source: Holder
    endpoints: tuple[str, ...]


class FoundCluster(msgspec.Struct, frozen=True):
    """The controller has no cluster id yet: draw one and log Found."""


Chore = NextConfiguration | Pull | HandOver | AskDrop | FoundCluster

# ── what a door decodes that anybody can knock at ──────────────────────────────────────────────────


class _Unopened(msgspec.Struct, frozen=True, array_like=True):
    """The beginning of an Operation, as it stands."""

    verb: msgspec.Raw
    key: msgspec.Raw
    value: msgspec.Raw


class _UnopenedWrite(msgspec.Struct, frozen=True, array_like=True, tag="w"):
    operations: Annotated[tuple[_Unopened, ...], msgspec.Meta(max_length=OPERATIONS_PER_REQUEST_MAX)]


_unopened = msgspec.msgpack.Decoder(_UnopenedWrite).decode
_HOLDS_OTHERS: Final = frozenset([*range(0x80, 0xA0), *range(0xDC, 0xE0)])


def _without_containers(packed: memoryview) -> None:
    """Refuse values that are arrays or maps before they are made.

    Nothing in the type forbids them (rows.Value): a body of a megabyte can be a dict whose keys share one hash, which
    takes most of a minute to make, or a million empty lists, which take sixty times its size.
    """
    for operation in _unopened(packed).operations:
        if memoryview(operation.value)[0] in _HOLDS_OTHERS:
            raise Malformed("a value is text or bytes")


WRITES: Codec[Write] = Codec(Write, COMMAND_BYTES_MAX, _without_containers)
OPENS: Codec[Open] = Codec(Open, 1 << 16)
DROPS: Codec[Drop] = Codec(Drop, 1 << 12)
ENROLLS: Codec[Enroll] = Codec(Enroll, 1 << 12)
CHANGES: Codec[Administer] = Codec(Administer, 1 << 20)
CLAIMS: Codec[Claim] = Codec(Claim, 1 << 12)
READS: Codec[Read] = Codec(Read, COMMAND_BYTES_MAX)
SCANS: Codec[Scan] = Codec(Scan, 1 << 16)
QUERIES: Codec[QueryConfiguration] = Codec(QueryConfiguration, 1 << 12)
PULLS: Codec[PullRows] = Codec(PullRows, 1 << 16)
