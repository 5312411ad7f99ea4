"""twisted-kv: a sharded, replicated, linearizable key/value store on Twisted.

The public names: Clerk, ControllerClerk, Configuration and every error. A Clerk made here brings its own network and
randomness; the reactor is given, never imported. docs/clients.md tells how to use them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred

from twisted_kv._version import __version__
from twisted_kv.client import clerk, controller_clerk
from twisted_kv.errors import (
    BadRequest,
    GroupExists,
    KeyTooLong,
    KVError,
    NoSuchGroup,
    NoSuchShard,
    NotAuthorized,
    OutcomeUnknown,
    Overloaded,
    StartRefused,
    Unavailable,
    ValueTooLarge,
    WrongType,
)
from twisted_kv.machines.configuration import Configuration
from twisted_kv.transport.endpoints import check_endpoint
from twisted_kv.transport.network import PBNetwork

__all__ = [
    "BadRequest",
    "Clerk",
    "Configuration",
    "ControllerClerk",
    "GroupExists",
    "KVError",
    "KeyTooLong",
    "NoSuchGroup",
    "NoSuchShard",
    "NotAuthorized",
    "OutcomeUnknown",
    "Overloaded",
    "StartRefused",
    "Unavailable",
    "ValueTooLarge",
    "WrongType",
    "__version__",
]


class Clerk(clerk.Clerk):
    """A client of one cluster over Perspective Broker; any number of calls may be in flight.

    Args:
        controllers: Twisted client endpoint strings of controller servers, at least one.
        reactor: connects and tells the time.
    Raises:
        WrongType, BadRequest: these are no endpoints.
    """

    def __init__(self, controllers: Sequence[str], reactor: Any) -> None:
        endpoints = _checked(controllers)
        self._links = PBNetwork(reactor)
        super().__init__(endpoints, reactor, Random(os.urandom(32)), self._links)

    def close(self) -> Deferred[None]:
        """Give up every call and every connection. Fires when nothing of this Clerk is left in the reactor."""
        return ensureDeferred(_close(super().close(), self._links))


class ControllerClerk(controller_clerk.ControllerClerk):
    """An administrator of one cluster over Perspective Broker.

    Args, errors: as for Clerk.
    """

    def __init__(self, controllers: Sequence[str], reactor: Any) -> None:
        endpoints = _checked(controllers)
        self._links = PBNetwork(reactor)
        super().__init__(endpoints, reactor, Random(os.urandom(32)), self._links, check_endpoint)

    def close(self) -> Deferred[None]:
        """Give up every call and every connection. Fires when nothing of this Clerk is left in the reactor."""
        return ensureDeferred(_close(super().close(), self._links))


def _checked(controllers: Sequence[str]) -> Sequence[str]:
    if isinstance(controllers, str | bytes) or not all(isinstance(endpoint, str) for endpoint in controllers):
        raise WrongType("controllers are a sequence of Twisted client endpoint strings")
    if not controllers:
        raise BadRequest("at least one controller is needed")
    return controllers


async def _close(closing: Deferred[None], links: PBNetwork) -> None:
    await closing
    await links.close()
