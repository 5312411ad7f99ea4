"""kv-group: one replica of a replica group.

Puts settings, the assembled member and the plain names together. Knows no protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from twisted.python.failure import Failure

from twisted_kv.service.assembly import assemble_group, key_clerk, network_of
from twisted_kv.service.collector import set_aside
from twisted_kv.service.life import ServerService
from twisted_kv.service.options import ControllersOption, PeerOptions, flags_of, parameters_of
from twisted_kv.service.plain import group_names
from twisted_kv.service.server import ListeningServer, Tenants
from twisted_kv.service.settings import Kind, Settings
from twisted_kv.service.stalls import Stalls


class Options(ControllersOption, PeerOptions):
    """What follows ``twistd kv-group``."""

    kind: ClassVar[Kind] = "group"
    synopsis = "kv-group --gid G --node N --data DIR --listen ENDPOINT --peer N=ENDPOINT ... --controller ENDPOINT ..."
    optParameters = parameters_of("group")
    optFlags = flags_of("group")


def makeService(options: Options) -> ServerService:
    """The service that twistd runs."""
    from twisted.internet import reactor

    # Before the first callLater: timers must not follow the wall clock (hazard §0.1).
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    return ServerService("kv-group", reactor, partial(group_server, options.settings, reactor), settle=set_aside)


def group_server(settings: Settings, reactor: Any, failed: Callable[[Failure], None]) -> ListeningServer:
    """One member of a group, not listening yet."""
    network = network_of(reactor)

    def furnish(_: Any) -> Tenants:
        member = assemble_group(settings, reactor, network, failed)
        clerk = key_clerk(settings.controllers, reactor, network)
        stalls = Stalls(reactor)
        return Tenants((member,), (clerk, stalls), {**group_names(clerk), "status": stalls.beside(member.status)})

    return ListeningServer(settings.listen, network, furnish, failed)
