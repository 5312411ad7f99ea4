"""The lab's part 2D: snapshots (scenarios §2.1, 2D). The Raft state of every server stays below 2,000 bytes,
on disk and in memory.
"""

import pytest
from raft_lab import RELIABLE, UNRELIABLE, Lab, Weather

STATE_BYTES_MAX = 2000


def snapshot_rounds(lab: Lab, disconnect: bool = False, crash: bool = False) -> None:
    """30 rounds: trouble for one server, 5 to 14 commands, agreement, the size limit, repair, agreement by all."""
    lab.one(lab.random_command(), 3, retry=True)
    leader = lab.check_one_leader()
    for round in range(30):
        victim, sender = lab.after_of(leader, 1), leader
        if round % 3 == 1:
            victim, sender = leader, lab.after_of(leader, 1)
        if disconnect:
            lab.disconnect(victim)
        if crash:
            lab.kill(victim)
        if disconnect or crash:
            lab.one(lab.random_command(), 2, retry=True)
        for _ in range(5 + lab.dice.randrange(10)):
            lab.submit(sender, lab.random_command())
        lab.one(lab.random_command(), 2 if disconnect or crash else 3, retry=True)
        assert lab.raft_state_size() < STATE_BYTES_MAX
        if crash:
            lab.boot(victim)
        if disconnect:
            lab.connect(victim)
        if disconnect or crash:
            lab.one(lab.random_command(), 3, retry=True)
            leader = lab.check_one_leader()
    assert len(lab.order) > 150


def test_2d_snapshot_basic():
    """Without faults, the log is cut all the time and nobody ever needs a snapshot from a peer.

    Messages of one link keep their order here, as on a connection: one that is overtaken makes a leader go back, and
    what it would go back to may be cut.

    Fails if ``RaftNode.compact`` drops nothing.
    """
    lab = Lab(3, weather=Weather(hop=(2, 2)), snapshots=True)
    snapshot_rounds(lab)
    assert "SnapshotOffer" not in lab.kinds


@pytest.mark.parametrize("weather", [RELIABLE, UNRELIABLE], ids=["install", "install_unreliable"])
def test_2d_snapshot_disconnect(weather):
    """A server cut off beyond the leader's log comes back by a snapshot; limits and agreements hold each round.

    Fails if ``installed`` does not reset the log.
    """
    lab = Lab(3, weather=weather, snapshots=True)
    snapshot_rounds(lab, disconnect=True)
    assert "SnapshotOffer" in lab.kinds


@pytest.mark.parametrize("weather", [RELIABLE, UNRELIABLE], ids=["install_crash", "install_un_crash"])
def test_2d_snapshot_crash(weather):
    """The same with crashes and restarts.

    Fails if a node that starts takes nothing for applied, though it has rows.
    """
    lab = Lab(3, weather=weather, snapshots=True)
    snapshot_rounds(lab, crash=True)
    assert "SnapshotOffer" in lab.kinds


@pytest.mark.parametrize("weather", [RELIABLE, UNRELIABLE], ids=["reliable", "unreliable"])
def test_2d_snapshot_all_crash(weather):
    """Five rounds: all crash and restart at once; the next agreement stands beyond all earlier ones.

    Fails if ``Log.compact`` keeps term 0 for the boundary's.
    """
    lab = Lab(3, weather=weather, snapshots=True)
    lab.one(lab.random_command(), 3, retry=True)
    for _ in range(5):
        for _ in range(5 + lab.dice.randrange(10)):
            lab.one(lab.random_command(), 3, retry=True)
        before = lab.one(lab.random_command(), 3, retry=True)
        lab.boot(*lab.hosts)
        assert lab.one(lab.random_command(), 3, retry=True) >= before + 1


@pytest.mark.parametrize("weather", [RELIABLE, UNRELIABLE], ids=["reliable", "unreliable"])
def test_2d_snapshot_init(weather):
    """Two restarts in a row: the first save after the first one has not forgotten the snapshot.

    Fails if ``State`` gives the log its entries without their boundary.
    """
    lab = Lab(3, weather=weather, snapshots=True)
    for _ in range(12):
        lab.one(lab.random_command(), 3, retry=True)
    assert all(host.disk.rows.commands for host in lab.hosts.values())
    for _ in range(2):
        lab.boot(*lab.hosts)
        lab.one(lab.random_command(), 3, retry=True)
    assert len(set(lab.order)) >= 14
