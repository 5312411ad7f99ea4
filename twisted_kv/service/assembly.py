"""Picks the concretes: which core, which store, which network. Nowhere else is that decided for a real server.

A second core is one more line in CORES. Knows every room by name and none from within.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from twisted.python.failure import Failure

from twisted_kv.client.clerk import Clerk
from twisted_kv.client.controller_clerk import ControllerClerk
from twisted_kv.client.inquiry import Inquiry
from twisted_kv.codec import Codec
from twisted_kv.consensus.raft.messages import MESSAGES as RAFT_MESSAGES
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.consensus.types import NodeID, Restored
from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import Door, IConsensus, INetwork, IStateMachine
from twisted_kv.machines.controller import ControllerMachine
from twisted_kv.machines.group import GroupMachine
from twisted_kv.replica.doors import ControllerDoors, GroupDoors
from twisted_kv.replica.member import IChores, Member, Parts
from twisted_kv.replica.reconciler import ControllerChores, GroupChores
from twisted_kv.replica.replica import Replica
from twisted_kv.replica.waits import Waits
from twisted_kv.service.settings import Settings
from twisted_kv.storage.directory import open_directory
from twisted_kv.storage.disk import choose_disk, disk_for_bulk
from twisted_kv.transport.endpoints import check_endpoint
from twisted_kv.transport.network import PBNetwork

Failed = Callable[[Failure], None]


class Core(NamedTuple):
    """One kind of consensus."""

    make: Callable[[NodeID, frozenset[NodeID], Restored, Random, int], IConsensus]
    codec: Codec[tuple[Any, ...]]


def _raft(node: NodeID, voters: frozenset[NodeID], restored: Restored, random: Random, applied: int) -> IConsensus:
    return RaftNode(node, voters, restored, random, applied=applied)


CORES: Mapping[str, Core] = {"raft": Core(_raft, RAFT_MESSAGES)}


def network_of(reactor: Any) -> PBNetwork:
    """The network door of a server process."""
    return PBNetwork(reactor)


def key_clerk(controllers: Sequence[str], reactor: Any, network: INetwork) -> Clerk:
    """A Clerk over a network that others use too."""
    return Clerk(controllers, reactor, fresh_random(), network)


def controller_clerk(controllers: Sequence[str], reactor: Any, network: INetwork) -> ControllerClerk:
    """A ControllerClerk over a network that others use too."""
    return ControllerClerk(controllers, reactor, fresh_random(), network, check_endpoint)


def assemble_controller(settings: Settings, reactor: Any, network: INetwork, failed: Failed) -> Member:
    """One member of the controller, its directory open.

    Raises:
        StartRefused: the directory cannot be used.
    """
    random = fresh_random()

    def doors(replica: Callable[[], Replica | None], waits: Waits) -> Mapping[str, Door]:
        return ControllerDoors(settings.node, replica, settings.peers, network, waits).doors

    def chores(replica: Replica, identity: str) -> IChores:
        return ControllerChores(replica, random, settings.shards, settings.value_bytes_max)

    return _member(settings, "controller", ControllerMachine(), reactor, network, random, doors, chores, failed)


def assemble_group(settings: Settings, reactor: Any, network: INetwork, failed: Failed) -> Member:
    """One member of a group, its directory open.

    Raises:
        StartRefused: the directory cannot be used.
    """
    random = fresh_random()
    machine = GroupMachine(settings.gid)
    asked_at: dict[tuple[int, int], float] = {}

    def doors(replica: Callable[[], Replica | None], waits: Waits) -> Mapping[str, Door]:
        return GroupDoors(settings.node, replica, machine, reactor, asked_at).doors

    def stranger(refusal: StartRefused) -> None:
        failed(Failure(refusal))

    def chores(replica: Replica, identity: str) -> IChores:
        ask = Inquiry(reactor, random, network)
        return GroupChores(
            settings.gid, identity, replica, settings.controllers, ask, reactor, machine, asked_at, stranger
        )

    return _member(settings, "group", machine, reactor, network, random, doors, chores, failed)


def fresh_random() -> Random:
    """A generator seeded by the operating system, once."""
    return Random(os.urandom(32))


def _member(
    settings: Settings,
    kind: Any,
    machine: IStateMachine,
    reactor: Any,
    network: INetwork,
    random: Random,
    doors: Callable[[Callable[[], Replica | None], Waits], Mapping[str, Door]],
    chores: Callable[[Replica, str], IChores],
    failed: Failed,
) -> Member:
    core = CORES[settings.consensus]
    directory = open_directory(str(settings.data))
    log_disk, data_disk, read_disk = disks = (
        choose_disk(str(settings.data), reactor),
        disk_for_bulk(reactor),
        choose_disk(str(settings.data), reactor),
    )
    try:
        parts = Parts(
            kind=kind,
            gid=settings.gid,
            node=settings.node,
            peers=settings.peers,
            directory=directory,
            log_disk=log_disk,
            data_disk=data_disk,
            read_disk=read_disk,
            network=network,
            clock=reactor,
            random=random,
            make_core=lambda node, voters, restored, applied: core.make(node, voters, restored, random, applied),
            codec=core.codec,
            consensus=settings.consensus,
            machine=machine,
            log_bytes_max=settings.log_bytes_max,
        )
        return Member(parts, doors, chores, failed)
    except StartRefused:
        directory.close()
        for disk in disks:
            disk.close()
        raise
