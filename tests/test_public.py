"""What ``import twisted_kv`` gives to users, and what it does not do to them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

import twisted_kv
from twisted_kv import errors


def test_every_name_of_the_contract_is_there():
    """Contract §3: the names above are importable from twisted_kv; so is every error class."""
    kinds = {name for name in errors.__all__ if name[0].isupper()}
    assert kinds | {"Clerk", "ControllerClerk", "Configuration"} <= set(twisted_kv.__all__)
    assert all(getattr(twisted_kv, name) is getattr(errors, name) for name in kinds)
    assert all(hasattr(twisted_kv, name) for name in twisted_kv.__all__)


def test_importing_installs_no_reactor():
    """Contract §3: the global reactor is imported by nobody but the plugins' services."""
    code = "import sys, twisted_kv; sys.exit('twisted.internet.reactor' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", [twisted_kv.Clerk, twisted_kv.ControllerClerk])
def test_controllers_are_a_sequence_of_endpoints(kind):
    with pytest.raises(twisted_kv.WrongType):
        kind("tcp:127.0.0.1:7001", None)
    with pytest.raises(twisted_kv.WrongType):
        kind([7001], None)
    with pytest.raises(twisted_kv.BadRequest):
        kind([], None)


@pytest_twisted.ensureDeferred
async def test_nobody_listens_so_nothing_has_happened():
    """Contract §6: Unavailable says that nothing entered a log; close leaves nothing in the reactor."""
    from twisted.internet import reactor
    from twisted.internet.endpoints import serverFromString
    from twisted.internet.protocol import Factory

    port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory())
    endpoint = f"tcp:127.0.0.1:{port.getHost().port}"
    await port.stopListening()
    for kind in (twisted_kv.Clerk, twisted_kv.ControllerClerk):
        client = kind([endpoint], reactor)
        asked: Deferred = client.get("k", timeout=0.3) if kind is twisted_kv.Clerk else client.query(timeout=0.3)
        with pytest.raises(twisted_kv.Unavailable):
            await asked
        await client.close()


@pytest_twisted.ensureDeferred
async def test_servers_that_nobody_could_dial_are_refused_before_they_are_joined():
    """A configuration that names them would leave shards waiting for a group that cannot be."""
    from twisted.internet import reactor

    admin = twisted_kv.ControllerClerk(["tcp:127.0.0.1:1"], reactor)
    for call in (admin.join({5: ["tcp:127.0.0.1:1", "bogus"]}), admin.readdress(5, ["tcp:x"])):
        with pytest.raises(twisted_kv.BadRequest):
            await call
    await admin.close()


def test_two_clerks_are_seeded_apart():
    """Hazard 42: ids are random per session."""
    first, second = (twisted_kv.Clerk(["tcp:127.0.0.1:1"], Clock()) for _ in range(2))
    assert first._nonce != second._nonce
