"""Asks single servers what they are, without a quorum: ``status`` of members, the gid of a group's servers.

Decides which servers there are to be asked, and what is said of one that does not answer. Knows the answers only as
plain values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater

from twisted_kv.admin.arrivals import with_rates
from twisted_kv.admin.running import Refusal
from twisted_kv.transport.wire import Iam

ASK_SECONDS = 2.0
AGAIN_SECONDS = 0.2
LOOK_SECONDS = 1.0


class IPlain(Protocol):
    """A network, as far as it calls plain remote names (transport/network)."""

    def ask(self, endpoint: str, name: str, *arguments: Any, timeout: float) -> Deferred[Any]: ...


class IProbe(Protocol):
    """A ControllerClerk, as far as it asks servers who they are."""

    def probe(self, endpoints: Sequence[str], *, timeout: float) -> Deferred[dict[str, Iam | None]]: ...


async def ask_all(network: IPlain, endpoints: Sequence[str], name: str) -> dict[str, Any]:
    """endpoint → what this remote name answers there; the exception where there was no answer."""
    asking = [network.ask(endpoint, name, timeout=ASK_SECONDS) for endpoint in endpoints]
    answers = await DeferredList(asking, consumeErrors=True)
    for arrived, answer in answers:
        if not arrived and answer.check(CancelledError):
            answer.raiseException()  # nobody wants to know any more
    return {
        endpoint: answer if arrived else answer.value
        for endpoint, (arrived, answer) in zip(endpoints, answers, strict=True)
    }


async def cluster_status(network: IPlain, clock: Any, controllers: Sequence[str], timeout: float) -> dict[str, Any]:
    """What contract §2 prints as ``status --json``: controller, groups, config, unreachable.

    The configuration is the newest that a controller which answers has applied: without a quorum it may be old.
    Groups that left are shown as long as they are named as the source of somebody's data and answer. While shards are
    arriving somewhere it takes LOOK_SECONDS longer.

    Args:
        timeout: for how long to ask again while not a single controller answers.
    """
    deadline = clock.seconds() + timeout
    answers = await ask_all(network, controllers, "status")
    while not any(map(is_status, answers.values())) and clock.seconds() < deadline:
        await deferLater(clock, AGAIN_SECONDS)
        answers = await ask_all(network, controllers, "status")
    answers |= await ask_all(network, unasked(answers), "status")
    members = [dict(part(answer, "controller"), endpoint=at) for at, answer in answers.items() if is_status(answer)]
    newest = max(members, key=lambda member: int(member["config"]["num"]), default={})
    config, former = newest.get("config", {}), newest.get("former", {})
    groups: dict[int, Sequence[str]] = {**former, **config.get("groups", {})}
    listed = dict.fromkeys(endpoint for endpoints in groups.values() for endpoint in endpoints)
    found = await ask_all(network, list(listed), "status")
    await _look_again(network, clock, found)
    shown = {
        gid: [dict(part(found[at], "group"), endpoint=at) for at in endpoints if is_status(found[at])]
        for gid, endpoints in sorted(groups.items())
    }
    expected = {at for gid in config.get("groups", {}) for at in groups[gid]}
    return {
        "controller": [
            {name: value for name, value in member.items() if name not in ("config", "former", "peers")}
            for member in sorted(members, key=node_of)
        ],
        "groups": {gid: shown[gid] for gid in shown if shown[gid] or gid in config["groups"]},
        "config": config,
        "unreachable": [
            *(at for at, answer in answers.items() if not is_status(answer)),
            *(at for at in found if at in expected and at not in answers and not is_status(found[at])),
        ],
    }


async def _look_again(network: IPlain, clock: Any, found: dict[str, Any]) -> None:
    """Ask those once more to whom shards are on their way: it takes two looks to tell how fast."""
    waiting = [at for at, answer in found.items() if is_status(answer) and part(answer, "group").get("arriving")]
    if not waiting:
        return
    begun = clock.seconds()
    await deferLater(clock, LOOK_SECONDS)
    for at, answer in (await ask_all(network, waiting, "status")).items():
        if is_status(answer):
            first, second = part(found[at], "group"), part(answer, "group")
            found[at] = {**answer, "group": with_rates(first, second, clock.seconds() - begun)}


def is_status(answer: Any) -> bool:
    """Whether that was an answer at all."""
    return isinstance(answer, dict)


def part(answer: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The member of this kind in a status: a kv-node answers for two."""
    member: Mapping[str, Any] = answer.get(kind, answer)
    return member


def node_of(member: Mapping[str, Any]) -> int:
    """Its place among its peers."""
    return int(member.get("node", 0))


def unasked(answers: Mapping[str, Any]) -> list[str]:
    """The controllers that were not named on the command line, by what those that were say of their peers.

    Only when fewer were named than there are: the peers may dial each other by other endpoints than we do.
    """
    members = [part(answer, "controller") for answer in answers.values() if is_status(answer)]
    peers: dict[int, str] = {}
    for member in members:
        peers |= member.get("peers", {})
    if len(answers) >= len(peers):
        return []
    asked = {node_of(member) for member in members}
    return [endpoint for node, endpoint in sorted(peers.items()) if node not in asked and endpoint not in answers]


async def group_identity(admin: IProbe, clock: Any, gid: int, endpoints: Sequence[str], timeout: float) -> str:
    """Make sure that a majority of these servers belong to this group; ask until they have formed or time is up.

    Returns:
        the identity that they name.
    Raises:
        Refusal: they do not.
    """
    deadline = clock.seconds() + timeout
    while True:
        known = await admin.probe(endpoints, timeout=ASK_SECONDS)
        for endpoint, who in known.items():
            if who is not None and who.gid != gid:
                raise Refusal(f"{endpoint} is a server of group {who.gid}, not of {gid}; nothing was changed")
        identities = Counter(who.identity for who in known.values() if who is not None and who.identity)
        for identity, count in identities.items():
            if 2 * count > len(known):
                return identity
        if not known or clock.seconds() >= deadline:
            silent = ", ".join(endpoint for endpoint, who in known.items() if who is None or not who.identity)
            raise Refusal(
                f"group {gid} is not up: no majority of its servers answers as one formed group (missing: {silent}); "
                "nothing was changed; --unchecked joins it all the same"
            )
        await deferLater(clock, AGAIN_SECONDS)
