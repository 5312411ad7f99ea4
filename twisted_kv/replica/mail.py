"""Messages of a core, to and from sealed bytes: addressed by node, checked for group and incarnation.

One body per peer and turn. What does not come from a known incarnation of a member, or is not meant for this
one, is dropped (hazards 9 and 37): a wiped directory is another incarnation, whatever its number says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted_kv.codec import Codec, Malformed
from twisted_kv.consensus.types import NodeID
from twisted_kv.interfaces import INetwork
from twisted_kv.transport.wire import PEER_STEP, STEP, Step


class Mail:
    """The post office of one member.

    Args:
        gid: the group, 0 for the controller.
        me: this node's id, negative for a copy.
        incarnation: of this directory.
        voters: node → incarnation of every voter.
        endpoints: node → client endpoint string.
        codec: of tuples of the core's messages.
    """

    def __init__(
        self,
        gid: int,
        me: NodeID,
        incarnation: str,
        voters: Mapping[NodeID, str],
        endpoints: Mapping[NodeID, str],
        codec: Codec[tuple[Any, ...]],
        network: INetwork,
    ) -> None:
        self._gid = gid
        self._me = me
        self._incarnation = incarnation
        self._voters = voters
        self._endpoints = endpoints
        self._codec = codec
        self._network = network

    def post(self, messages: Iterable[Any]) -> None:
        """Send each message to its ``to``; those of one receiver travel together, in order."""
        by_receiver: dict[NodeID, list[Any]] = {}
        for message in messages:
            by_receiver.setdefault(message.to, []).append(message)
        for receiver, bundle in by_receiver.items():
            endpoint = self._endpoints.get(abs(receiver))
            if endpoint is None:
                continue
            body = self._codec.encode(tuple(bundle))
            step = Step(self._gid, self._me, self._incarnation, receiver, body)
            self._network.send(endpoint, PEER_STEP, STEP.encode(step))

    def opened(self, body: bytes) -> tuple[Any, ...]:
        """The messages in a body, none if it is not for us or from nobody we know.

        Raises:
            Malformed: the bytes are not a Step of this program.
        """
        step = STEP.decode(body)
        if step.gid != self._gid or step.to != self._me:
            return ()
        if step.sender > 0 and self._voters.get(step.sender) != step.incarnation:
            return ()
        messages = self._codec.decode(step.body)
        if any(message.sender != step.sender for message in messages):
            raise Malformed("a message names another sender than its envelope")
        return messages
