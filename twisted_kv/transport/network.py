"""The network door over Perspective Broker: who calls whom, by endpoint strings.

Owns one link per endpoint (links.py) and makes listening ports (listening.py). All time comes from the reactor
that is given; nothing is global. What bodies mean, and whether to try again, is for the caller to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, fail, gatherResults

from twisted_kv.errors import StartRefused
from twisted_kv.interfaces import Door, NotSent
from twisted_kv.transport.complaints import Complaints
from twisted_kv.transport.endpoints import client_endpoint, server_endpoint
from twisted_kv.transport.links import PATIENCE, Link, Patience
from twisted_kv.transport.listening import HOSPITALITY, DoorFactory, Hospitality, Listening
from twisted_kv.transport.roots import DoorRoot, Plain


class PBNetwork:
    """INetwork over Perspective Broker.

    Args:
        reactor: connects, listens and tells the time.
        patience: how links wait.
        hospitality: how listening ports treat their connections.
    """

    def __init__(self, reactor: Any, patience: Patience = PATIENCE, hospitality: Hospitality = HOSPITALITY) -> None:
        self._reactor = reactor
        self._patience = patience
        self._hospitality = hospitality
        self._complaints = Complaints(reactor)
        self._links: dict[str, Link] = {}
        self._retiring: set[Link] = set()
        self._closed = False

    def send(self, endpoint: str, verb: str, body: bytes) -> None:
        """One way, may be lost, never raises; small bodies overtake large ones."""
        try:
            link = self._link(endpoint)
        except NotSent as error:
            self._complaints.warn("cannot send to {endpoint}: {error}", endpoint=endpoint, error=str(error))
        else:
            link.send(verb, body)

    def call(self, endpoint: str, verb: str, body: bytes, timeout: float) -> Deferred[bytes]:
        """Ask and wait: a Deferred of the answer, which can be cancelled (CancelledError, and an answer is dropped).

        Fails with NotSent when the request certainly had no effect (bad endpoint, no connection, refused at the
        door, only a part of it handed over), with LostAnswer when it may have had.
        """
        try:
            return self._link(endpoint).call(verb, body, timeout)
        except NotSent as error:
            return fail(error)

    def ask(self, endpoint: str, name: str, *arguments: Any, timeout: float) -> Deferred[Any]:
        """Call a plain remote name, as a script would: a Deferred of a plain value.

        Fails as ``call`` does, or with the KVError that the server answered.
        """
        try:
            return self._link(endpoint).ask(name, arguments, timeout)
        except NotSent as error:
            return fail(error)

    def backlog(self, endpoint: str) -> int:
        """Bytes for this endpoint that were taken and are not yet given to a transport."""
        link = self._links.get(endpoint)
        return 0 if link is None else link.backlog

    def listen(self, endpoint: str, doors: Mapping[str, Door], plain: Mapping[str, Plain]) -> Deferred[Listening]:
        """Serve doors and plain names on a Twisted server endpoint.

        Fails with StartRefused when the text is no endpoint, or cannot be listened on.
        """
        try:
            server = server_endpoint(self._reactor, endpoint)
        except ValueError as error:
            return fail(StartRefused(str(error)))
        root = DoorRoot(doors, plain, self._reactor)
        factory = DoorFactory(root, self._reactor, self._hospitality)

        def refused(failure: Any) -> Listening:
            raise StartRefused(f"cannot listen on {endpoint}: {failure.getErrorMessage()}") from failure.value

        return server.listen(factory).addCallbacks(Listening, refused, callbackArgs=(factory,))

    def close(self) -> Deferred[None]:
        """Close every link; fires when all are gone. Ports are closed by their own ``stop``."""
        self._closed = True
        links = [*self._links.values(), *self._retiring]
        return gatherResults([link.close() for link in links]).addCallback(lambda _: None)

    def _link(self, endpoint: str) -> Link:
        link = self._links.get(endpoint)
        if link is not None:
            return link
        if self._closed:
            raise NotSent("the network door is closed")
        try:
            client = client_endpoint(self._reactor, endpoint)
        except ValueError as error:
            raise NotSent(str(error)) from None
        link = Link(self._reactor, endpoint, client, self._patience, self._complaints, self._retired)
        self._links[endpoint] = link
        return link

    def _retired(self, link: Link) -> None:
        """A link closed itself; the next use of its endpoint makes another."""
        self._links = {endpoint: other for endpoint, other in self._links.items() if other is not link}
        self._retiring.add(link)
        link.close().addCallback(lambda _: self._retiring.discard(link))
