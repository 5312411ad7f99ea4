"""kv-controller: one replica of the shard controller.

Puts settings, the assembled member and the plain names together. Knows no protocol.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from twisted.python.failure import Failure

from twisted_kv.service.assembly import assemble_controller, controller_clerk, network_of
from twisted_kv.service.collector import set_aside
from twisted_kv.service.life import ServerService
from twisted_kv.service.options import PeerOptions, flags_of, parameters_of
from twisted_kv.service.plain import controller_names
from twisted_kv.service.server import ListeningServer, Tenants
from twisted_kv.service.settings import Kind, Settings
from twisted_kv.service.stalls import Stalls
from twisted_kv.service.status import controller_status


class Options(PeerOptions):
    """What follows ``twistd kv-controller``."""

    kind: ClassVar[Kind] = "controller"
    synopsis = "kv-controller --node N --data DIR --listen ENDPOINT --peer N=ENDPOINT ... [options]"
    optParameters = parameters_of("controller")
    optFlags = flags_of("controller")


def makeService(options: Options) -> ServerService:
    """The service that twistd runs."""
    from twisted.internet import reactor

    # Before the first callLater: timers must not follow the wall clock (hazard §0.1).
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    return ServerService(
        "kv-controller", reactor, partial(controller_server, options.settings, reactor), settle=set_aside
    )


def controller_server(settings: Settings, reactor: Any, failed: Callable[[Failure], None]) -> ListeningServer:
    """One controller, not listening yet."""
    network = network_of(reactor)

    def furnish(_: Any) -> Tenants:
        member = assemble_controller(settings, reactor, network, failed)
        clerk = controller_clerk(tuple(settings.peers.values()), reactor, network)
        stalls = Stalls(reactor)
        status = stalls.beside(partial(controller_status, member, settings.peers))
        return Tenants((member,), (clerk, stalls), {**controller_names(clerk), "status": status})

    return ListeningServer(settings.listen, network, furnish, failed)
