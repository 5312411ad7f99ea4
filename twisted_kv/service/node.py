"""kv-node: a whole store in one process, one controller and one group of one replica each.

The same corridors, files and doors as a cluster, behind one endpoint. Decides what clients are told (``--advertise``)
and tells the controller: joins gid 1 when the store is new, readdresses it when the endpoint has changed. An
administrator's leave is not undone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_kv.errors import KVError
from twisted_kv.service.assembly import assemble_controller, assemble_group, controller_clerk, key_clerk, network_of
from twisted_kv.service.collector import set_aside
from twisted_kv.service.life import ServerService
from twisted_kv.service.options import ServiceOptions, flags_of, parameters_of
from twisted_kv.service.plain import AdminClerk, controller_names, group_names
from twisted_kv.service.server import ListeningServer, Tenants
from twisted_kv.service.settings import Kind, Settings
from twisted_kv.service.stalls import Stalls
from twisted_kv.service.status import controller_status

GID: Final = 1
ANNOUNCE_PAUSE_SECONDS: Final = 0.5
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


class Options(ServiceOptions):
    """What follows ``twistd kv-node``."""

    kind: ClassVar[Kind] = "node"
    synopsis = "kv-node --data DIR [options]"
    optParameters = parameters_of("node")
    optFlags = flags_of("node")


def makeService(options: Options) -> ServerService:
    """The service that twistd runs."""
    from twisted.internet import reactor

    # Before the first callLater: timers must not follow the wall clock (hazard §0.1).
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    return ServerService("kv-node", reactor, partial(node_server, options.settings, reactor), settle=set_aside)


def node_server(settings: Settings, reactor: Any, failed: Callable[[Failure], None]) -> ListeningServer:
    """A controller and a group behind one listener, not listening yet."""
    network = network_of(reactor)

    def furnish(host: Any) -> Tenants:
        endpoint = client_endpoint(host)
        controller = assemble_controller(part(settings, "controller", endpoint), reactor, network, failed)
        group = assemble_group(part(settings, "group", endpoint), reactor, network, failed)
        admin = controller_clerk((endpoint,), reactor, network)
        clerk = key_clerk((endpoint,), reactor, network)
        stalls = Stalls(reactor)
        announcement = Announcement(admin, settings.advertise or endpoint, reactor, failed)

        of_controller = stalls.beside(partial(controller_status, controller, {1: endpoint}))
        of_group = stalls.beside(group.status)

        def status() -> dict[str, Any]:
            return {"controller": of_controller(), "group": of_group()}

        plain = {**controller_names(admin), **group_names(clerk), "status": status}
        return Tenants((controller, group), (announcement, admin, clerk, stalls), plain)

    return ListeningServer(settings.listen, network, furnish, failed)


class Announcement:
    """Has the newest configuration name our endpoint; asks from now on until the controller has answered.

    Args:
        endpoint: what clients are to be told.
        failed: told of an error that asking again does not mend.
    """

    log = Logger()

    def __init__(self, admin: AdminClerk, endpoint: str, clock: Any, failed: Callable[[Failure], None]) -> None:
        self._admin = admin
        self._endpoint = endpoint
        self._clock = clock
        self._running = ensureDeferred(self._announce())
        self._running.addErrback(lambda failure: failed(failure) if not failure.check(CancelledError) else None)

    def close(self) -> Deferred[None]:
        """Ask no more."""
        self._running.cancel()
        return succeed(None)

    async def _announce(self) -> None:
        while True:
            try:
                await self._announce_once()
            except KVError as error:
                self.log.warn("Not announced yet: {error}", error=error.text)
                await deferLater(self._clock, ANNOUNCE_PAUSE_SECONDS)
            else:
                self.log.info("Clients are told {endpoint}", endpoint=self._endpoint)
                return

    async def _announce_once(self) -> None:
        newest = await self._admin.query(-1)
        if newest.num == 0:
            await self._admin.join({GID: [self._endpoint]})
        elif newest.groups.get(GID, (self._endpoint,)) != (self._endpoint,):
            await self._admin.readdress(GID, [self._endpoint])


def part(settings: Settings, kind: Kind, endpoint: str) -> Settings:
    """The settings of one of the two members of a node whose listener is dialled at ``endpoint``."""
    return replace(
        settings,
        kind=kind,
        data=settings.data / kind,
        peers=MappingProxyType({settings.node: endpoint}),
        controllers=(endpoint,) if kind == "group" else (),
        gid=GID if kind == "group" else 0,
    )


def client_endpoint(host: Any) -> str:
    """The client endpoint by which this machine dials what is bound at ``host`` (an IAddress).

    >>> from twisted.internet.address import IPv4Address
    >>> client_endpoint(IPv4Address("TCP", "0.0.0.0", 7000))
    'tcp:127.0.0.1:7000'
    """
    if isinstance(host, UNIXAddress):
        return f"unix:{quoteStringArgument(os.fsdecode(host.name or b''))}"
    return f"tcp:{quoteStringArgument(_EVERYWHERE.get(host.host, host.host))}:{host.port}"
