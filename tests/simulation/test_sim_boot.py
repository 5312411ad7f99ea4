"""What one boot of one member consists of."""

import pytest

from twisted_kv.simulation.doors.network import Hub
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.faults.echoes import Echoes
from twisted_kv.simulation.faults.knobs import USUAL
from twisted_kv.simulation.judges.invariants import Watch
from twisted_kv.simulation.judges.sights import Sights
from twisted_kv.simulation.lives.boot import Booting, Directory, Seat
from twisted_kv.storage.directory import open_directory


@pytest.mark.parametrize(
    ("wire", "house", "endpoint", "announced"),
    [
        (False, 0, "peer:g7-1", "sim:g7-1"),
        (False, 2, "peer:g7-1", "sim:g7-1~2"),
        (True, 0, "tcp:g7-1:7000", "tcp:g7-1:7001"),
        (True, 2, "tcp:g7-1:7000", "tcp:g7-1:7003"),
    ],
)
def test_where_a_member_is_found(wire, house, endpoint, announced):
    seat = Seat("g7-1", 7, 1, "path", wire)
    assert (seat.endpoint, seat.announced(house)) == (endpoint, announced)


@pytest.mark.parametrize(("key", "gid", "kind"), [(7, 7, "group"), (-7, 7, "group"), (0, 0, "controller")])
def test_rivals_sit_under_the_gid_of_others(key, gid, kind):
    seat = Seat("x", key, 1, "path")
    assert (seat.gid, seat.kind) == (gid, kind)


def test_a_member_that_is_started_forms_its_group_and_knows_what_it_was_given(tmp_path):
    world = World(1)
    hub, watch, torn = Hub(world), Watch(), {"g7-1"}
    echoes = Echoes(world, lambda gid, verb, command: None)
    booting = Booting(world, hub, watch, Sights(world), USUAL, 10, 1 << 20, torn, echoes, lambda: ("sim:ctl-1",))
    seat = Seat("g7-1", 7, 1, str(tmp_path))
    boot = booting.boot(seat, "g7-1/1", {1: seat.endpoint}, lambda host, failure: watch.report(str(failure)))
    assert (boot.host.name, boot.member.replica) == ("g7-1", None)
    hub.listen(seat.endpoint, boot.host, boot.member.doors)
    boot.member.start()
    assert world.run_until(lambda: boot.member.replica is not None and boot.member.replica.leads, 10)
    assert torn == set(), "it came up on what was torn"
    assert world.reached["torn write-ahead log harmless"] == 1
    boot.host.clock.stop()
    boot.directory.close()
    assert watch.wrong == []


def test_a_directory_closes_what_a_killed_process_leaves_open(tmp_path):
    opened = open_directory(str(tmp_path), synchronous="OFF", ballast_bytes=0)
    directory = Directory(opened, opened.log)
    snapshot, closed = directory.data.snapshot(), []
    close, snapshot.close = snapshot.close, lambda: closed.append(True)
    directory.close()
    close()
    assert closed == [True]
    open_directory(str(tmp_path), synchronous="OFF", ballast_bytes=0).close()
