"""What a controller says of itself beside what every member says: the newest configuration that it has applied.

By it ``twisted-kv status`` finds the groups without a quorum; it may be old. Plain values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from twisted_kv.interfaces import IStateMachine
from twisted_kv.machines.commands import QueryConfiguration
from twisted_kv.service.plain import plain_configuration


class IDescribed(Protocol):
    """A Member (replica/member), as far as people look at it."""

    @property
    def machine(self) -> IStateMachine: ...
    def status(self) -> dict[str, Any]: ...


def controller_status(member: IDescribed, peers: Mapping[int, str]) -> dict[str, Any]:
    """The member's status, and

    - ``config``: num, shards, groups;
    - ``former``: gid → endpoints of groups that left and may still hold data;
    - ``peers``: node → endpoint by which this controller dials it.
    """
    configuration = member.machine.query(QueryConfiguration(-1)).configuration
    former = {left.gid: list(left.endpoints) for left in configuration.former if left.gid not in configuration.groups}
    return {**member.status(), "config": plain_configuration(configuration), "former": former, "peers": dict(peers)}
