"""Bytes go to the operating system at once when none wait before them; what it does not take, Twisted sends later.

Twisted's own ``write`` sends nothing before the reactor's next turn. A leader whose disk works inline would thus sync
its own log before its followers hear of an entry (thesis §10.2.1: it may write to its disk in parallel with them), and
every message would cost two more system calls and another event. Knows no messages, only bytes and their order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Connection


def sender(transport: Any) -> Callable[[bytes], None]:
    """What writes to this transport: its own ``write``, unless it is a socket of Twisted's."""
    if not isinstance(transport, Connection):
        return transport.write  # type: ignore[no-any-return]

    def send(data: bytes) -> None:
        # Nothing may overtake what waits, nor pass by TLS.
        if not (transport._tempDataBuffer or transport.dataBuffer or transport.disconnecting or transport.TLS):
            taken = transport.writeSomeData(data) if transport.connected else 0
            if taken == len(data):
                return
            if isinstance(taken, int) and taken > 0:
                data = data[taken:]
        # Also what a lost connection did not take: its loss is told by the reactor, in a turn of its own.
        transport.write(data)

    return send
