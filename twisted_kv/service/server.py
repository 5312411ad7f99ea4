"""One listener and who lives behind it: the shape of all three services.

Decides the order of a start (listen, open the directories, form, which takes as long as the peers do) and of a stop
(leadership, listener, helpers, files, links). Knows its tenants only as Members and what else is to be closed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.python.failure import Failure

from twisted_kv.interfaces import Door
from twisted_kv.service.plain import PlainName


class IReplica(Protocol):
    """A running replica (replica/replica), as far as a stop needs it."""

    def hand_over(self) -> Deferred[None]: ...


class IMember(Protocol):
    """One replica, whole (replica/member); its directory is open."""

    @property
    def doors(self) -> Mapping[str, Door]: ...
    @property
    def replica(self) -> IReplica | None: ...
    def start(self) -> Deferred[None]: ...
    def stop(self) -> Deferred[None]: ...


class IHelper(Protocol):
    """What else runs in this process, Clerks for example, as far as a stop needs it."""

    def close(self) -> Deferred[None]: ...


class IListening(Protocol):
    """A bound endpoint."""

    def getHost(self) -> Any: ...
    def stop(self) -> Deferred[None]: ...


class IServerNetwork(Protocol):
    """The network of a server: where it listens, and all of its links."""

    def listen(self, endpoint: str, doors: Mapping[str, Door], plain: Mapping[str, PlainName]) -> Deferred[Any]: ...
    def close(self) -> Deferred[None]: ...


@dataclass(frozen=True)
class Tenants:
    """Who lives behind a listener.

    Attributes:
        members: the replicas; where two have the same door, the later one's is opened.
        helpers: closed before the members.
        plain: names for scripts that import nothing of ours.
    """

    members: Sequence[IMember]
    helpers: Sequence[IHelper]
    plain: Mapping[str, PlainName]


class ListeningServer:
    """A Server (service/life) of one listener.

    Args:
        endpoint: the server endpoint to bind.
        furnish: opens the directories, given where we are bound; raises StartRefused.
        failed: told when a member cannot go on.
    """

    def __init__(
        self,
        endpoint: str,
        network: IServerNetwork,
        furnish: Callable[[Any], Tenants],
        failed: Callable[[Failure], None],
    ) -> None:
        self._endpoint = endpoint
        self._network = network
        self._furnish = furnish
        self._failed = failed
        self._listening: IListening | None = None
        self._tenants = Tenants((), (), {})

    def start(self) -> Deferred[None]:
        """Fires when the endpoint is bound and the directories are open; the groups may form later."""
        return ensureDeferred(self._start())

    def stop(self) -> Deferred[None]:
        """Fires when everything is closed; also after a start that failed."""
        tenants = self._tenants
        return close_in_order(
            *[_hand_over(member) for member in tenants.members],
            self._stop_listening,
            *[helper.close for helper in tenants.helpers],
            *[member.stop for member in tenants.members],
            self._network.close,
        )

    async def _start(self) -> None:
        # Listening comes first: the port may be known only then, a port in use is found before a file is touched,
        # and whoever dials us before the tenants are in would be told the same as a moment earlier.
        doors: dict[str, Door] = {}
        plain: dict[str, PlainName] = {}
        self._listening = await self._network.listen(self._endpoint, doors, plain)
        self._tenants = self._furnish(self._listening.getHost())
        for member in self._tenants.members:
            doors |= member.doors
        plain |= self._tenants.plain
        for member in self._tenants.members:
            member.start().addErrback(self._failed)

    def _stop_listening(self) -> Deferred[None]:
        return self._listening.stop() if self._listening is not None else succeed(None)


def close_in_order(*steps: Callable[[], Deferred[None]]) -> Deferred[None]:
    """Take the steps one after the other, all of them even if one fails.

    Fails with the first error, after the last step.
    """

    async def close() -> None:
        failed: Exception | None = None
        for step in steps:
            try:
                await step()
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed

    return ensureDeferred(close())


def _hand_over(member: IMember) -> Callable[[], Deferred[None]]:
    """Let another replica lead before this one stops."""

    def hand_over() -> Deferred[None]:
        return member.replica.hand_over() if member.replica is not None else succeed(None)

    return hand_over
