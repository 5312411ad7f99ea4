"""The controller's machine: the numbered sequence of configurations, and who may speak for a member.

Decides what a Join, Leave, Move or Readdress makes of the newest configuration, or why it makes nothing. Each
change is carried out at most once per administrator's session; history is only ever appended to. A member is
claimed by the first replica group that says it is that one, so two sets of processes under one gid can never
both own a shard. Refuses everything but claims, sessions and queries until a leader has founded the cluster.

Source: scenarios 36-46, M1-M7; hazards 45, 46. Knows neither who asks, nor whether a group is alive, nor what
a group makes of a configuration.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from twisted_kv.codec import Codec, Malformed
from twisted_kv.constants import SHARDS_MAX, VALUE_BYTES_CEILING
from twisted_kv.machines.commands import (
    CONTROLLER_COMMANDS,
    Administer,
    Change,
    Claim,
    ConfigurationAnswer,
    Configured,
    Done,
    Enroll,
    Expired,
    Found,
    FoundCluster,
    Join,
    Leave,
    Move,
    QueryConfiguration,
    Readdress,
    Refused,
)
from twisted_kv.machines.configuration import Configuration, Member, empty_configuration, readdressed, successor
from twisted_kv.machines.rebalance import rebalance
from twisted_kv.machines.rows import MACHINE_SHARD, ChangedRows, Changes, Row, Value
from twisted_kv.machines.sessions import Sessions

# Spaces of the rows, all under MACHINE_SHARD; text is JSON or plain, to be read by people.
CLUSTER_SPACE: Final = "cluster"  # "id" → the cluster id
CONFIGURATION_SPACE: Final = "configuration"  # number → the Configuration
CLAIM_SPACE: Final = "claim"  # gid.joined → the identity
SESSION_SPACE: Final = "session"  # see machines/sessions


class ControllerMachine:
    """An IStateMachine over CONTROLLER_COMMANDS; answers QueryConfiguration."""

    def __init__(self) -> None:
        self._changed: dict[tuple[int, int, str, str], Value | None] = {}
        self.clear()

    def apply(self, index: int, command: bytes) -> Configured | Done | Refused | Expired:
        match CONTROLLER_COMMANDS.decode(command):
            case Found() as found:
                return self._found(found)
            case Enroll(nonce=nonce):
                return Done(self._sessions.open(nonce))
            case Administer() as administer:
                return self._administer(administer)
            case Claim() as claim:
                return self._claim(claim)

    def query(self, query: Any) -> ConfigurationAnswer | Refused:
        assert isinstance(query, QueryConfiguration), query
        if query.num < -1:
            return Refused("BadRequest", f"there is no configuration {query.num}; -1 asks for the newest")
        newest = self._newest.num
        configuration = self._history[newest if query.num == -1 else min(query.num, newest)]
        member = configuration.member(query.gid)
        claimed_by = "" if member is None else self._claims.get((member.gid, member.joined), "")
        return ConfigurationAnswer(self._cluster, configuration, claimed_by)

    def chores(self) -> Sequence[FoundCluster]:
        return () if self._cluster else (FoundCluster(),)

    def take_changes(self) -> Changes:
        rows = self._changed
        self._changed = {}
        for name, value in self._sessions.take_dirty():
            rows[MACHINE_SHARD, 0, SESSION_SPACE, name] = value
        return Changes(dropped=[], rows=ChangedRows.of(rows))

    def load(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.value is None:
                raise Malformed(f"row {row.key} has no value")
            self._load(row.space, row.name, row.value)

    def clear(self) -> None:
        self._cluster = ""
        self._history = [empty_configuration()]
        self._claims: dict[tuple[int, int], str] = {}
        self._sessions = Sessions()
        self._changed = {}

    def tidy(self) -> None:
        """Nothing here is large."""

    def digest(self) -> int:
        digest = 0
        for space, name, value in self._rows():
            digest = zlib.crc32(f"{space} {name} {value}\n".encode(), digest)
        return digest ^ self._sessions.digest()

    def status(self) -> Mapping[str, Any]:
        return {
            "cluster": self._cluster,
            "configurations": self._newest.num,
            "sessions": len(self._sessions),
            "keys": 0,
            "bytes": 0,
            "shards": 0,
            "migrations": 0,
        }

    @property
    def _newest(self) -> Configuration:
        return self._history[-1]

    def _found(self, found: Found) -> Done | Refused:
        if self._cluster:
            return Done(self._cluster)
        if not (
            found.cluster and 1 <= found.shards <= SHARDS_MAX and 1 <= found.value_bytes_max <= VALUE_BYTES_CEILING
        ):
            return Refused("BadRequest", f"no cluster can have {found.shards} shards, {found.value_bytes_max} bytes")
        self._cluster = found.cluster
        self._history = [empty_configuration(found.shards, found.value_bytes_max)]
        self._note(CLUSTER_SPACE, "id", found.cluster)
        self._note_newest()
        return Done(self._cluster)

    def _administer(self, administer: Administer) -> Configured | Refused | Expired:
        if not self._cluster:
            return Refused("Unavailable", "the controller has not founded its cluster yet")
        session, sequence = administer.session, administer.sequence
        digest = zlib.crc32(_CHANGES.encode(administer.change))
        outcome = self._sessions.recall(session, sequence, administer.floor, digest)
        if outcome is None:
            outcome = self._change(administer.change)
            self._sessions.record(session, sequence, digest, outcome)
        # A result is kept as a number only: the history has the rest, and never changes.
        return Configured(self._history[outcome.value]) if isinstance(outcome, Done) else outcome

    def _change(self, change: Change) -> Done | Refused:
        """Carry out a change; Done(number of the configuration that holds now)."""
        refused: Refused | None = None
        match change:
            case Join():
                refused = self._join(change)
            case Leave(gids=gids):
                self._leave(gids)
            case Move(shard=shard, gid=gid):
                refused = self._move(shard, gid)
            case Readdress(gid=gid, endpoints=endpoints):
                refused = self._readdress(gid, endpoints)
        return refused or Done(self._newest.num)

    def _join(self, join: Join) -> Refused | None:
        members = {member.gid: member for member in self._newest.members}
        asked = sorted(join.groups)
        if len(dict(asked)) < len(asked):
            return Refused("BadRequest", "a group stands twice in one join")
        for gid, endpoints in asked:
            refused = _bad_endpoints(gid, endpoints)
            if refused:
                return refused
            if gid < 1:
                return Refused("BadRequest", f"{gid} cannot be a group: gids begin at 1")
            if gid in members and members[gid].endpoints != endpoints:
                return Refused("GroupExists", f"group {gid} is there with other servers; see readdress")
        joined = [Member(gid, self._newest.num + 1, endpoints) for gid, endpoints in asked if gid not in members]
        if joined:
            self._regroup([*members.values(), *joined])
        identities = dict(join.identities)
        for gid, _ in asked:
            member = self._newest.member(gid)
            if member is not None and identities.get(gid):
                self._claim_member(member, identities[gid])
        return None

    def _leave(self, gids: Sequence[int]) -> None:
        staying = [member for member in self._newest.members if member.gid not in gids]
        if len(staying) < len(self._newest.members):
            self._regroup(staying)

    def _move(self, shard: int, gid: int) -> Refused | None:
        newest = self._newest
        if not 0 <= shard < len(newest.shards):
            return Refused("NoSuchShard", f"shard {shard} is not one of 0 … {len(newest.shards) - 1}")
        if newest.member(gid) is None:
            return Refused("NoSuchGroup", f"group {gid} is not in configuration {newest.num}")
        if newest.shards[shard] != gid:
            owners = (*newest.shards[:shard], gid, *newest.shards[shard + 1 :])
            self._append(successor(newest, newest.members, owners))
        return None

    def _readdress(self, gid: int, endpoints: tuple[str, ...]) -> Refused | None:
        """Also of a group that left and still holds what others wait for: it can be found again only so."""
        newest = self._newest
        known = [member for member in newest.members + newest.former[::-1] if member.gid == gid]
        if not known:
            return Refused("NoSuchGroup", f"group {gid} is not in configuration {newest.num}")
        refused = _bad_endpoints(gid, endpoints)
        if refused is None and known[0].endpoints != endpoints:
            self._append(readdressed(newest, known[0], endpoints))
        return refused

    def _regroup(self, members: Iterable[Member]) -> None:
        """Append the configuration of these groups, balanced."""
        listed = sorted(members, key=lambda member: member.gid)
        owners = rebalance(self._newest.shards, [member.gid for member in listed])
        self._append(successor(self._newest, listed, owners))

    def _append(self, configuration: Configuration) -> None:
        assert configuration.num == len(self._history)
        self._history.append(configuration)
        self._note_newest()

    def _claim(self, claim: Claim) -> Done | Refused:
        gid, joined = claim.gid, claim.joined
        if not claim.identity:
            return Refused("BadRequest", "a claim needs an identity")
        member = self._history[joined].member(gid) if 0 < joined <= self._newest.num else None
        if member is None or member.joined != joined:
            return Refused("NoSuchGroup", f"no group {gid} ever joined by configuration {joined}")
        return Done(self._claim_member(member, claim.identity))

    def _claim_member(self, member: Member, identity: str) -> str:
        """Who has the member: the first that claimed it."""
        key = (member.gid, member.joined)
        if key not in self._claims:
            self._claims[key] = identity
            self._note(CLAIM_SPACE, _claim_name(key), identity)
        return self._claims[key]

    def _note_newest(self) -> None:
        self._note(CONFIGURATION_SPACE, _number_name(self._newest.num), _configuration_text(self._newest))

    def _note(self, space: str, name: str, value: str) -> None:
        self._changed[MACHINE_SHARD, 0, space, name] = value

    def _rows(self) -> Iterator[tuple[str, str, str]]:
        """Space, name and value of all rows but those of the sessions."""
        for key in sorted(self._claims):
            yield CLAIM_SPACE, _claim_name(key), self._claims[key]
        yield CLUSTER_SPACE, "id", self._cluster
        for configuration in self._history:
            yield CONFIGURATION_SPACE, _number_name(configuration.num), _configuration_text(configuration)

    def _load(self, space: str, name: str, value: Value) -> None:
        if space == SESSION_SPACE:
            self._sessions.load(name, value)
            return
        if not isinstance(value, str):
            raise Malformed(f"a {space} row is text")
        if space == CLUSTER_SPACE:
            self._cluster = value
        elif space == CLAIM_SPACE:
            gid, _, joined = name.partition(".")
            self._claims[int(gid), int(joined)] = value
        elif space == CONFIGURATION_SPACE:
            self._load_configuration(value)
        else:
            raise Malformed(f"a controller has no space {space!r}")

    def _load_configuration(self, text: str) -> None:
        try:
            configuration = _decode_configuration(text)
        except msgspec.DecodeError as error:
            raise Malformed(f"a configuration that cannot be read: {error}") from None
        if configuration.num == 0:
            self._history = [configuration]
        elif configuration.num == len(self._history):
            self._history.append(configuration)
        else:
            raise Malformed(f"configuration {configuration.num} follows {self._newest.num}")


def _bad_endpoints(gid: int, endpoints: tuple[str, ...]) -> Refused | None:
    if not endpoints:
        return Refused("BadRequest", f"group {gid} has no servers")
    if not all(endpoints):
        return Refused("BadRequest", f"group {gid} has an empty endpoint")
    return None


def _number_name(num: int) -> str:
    return f"{num:016d}"


def _claim_name(key: tuple[int, int]) -> str:
    gid, joined = key
    return f"{gid:020d}.{joined:016d}"


def _configuration_text(configuration: Configuration) -> str:
    return _encode_configuration(configuration).decode()


_CHANGES: Codec[Change] = Codec(Change)
_encode_configuration = msgspec.json.Encoder().encode
_decode_configuration = msgspec.json.Decoder(Configuration).decode
