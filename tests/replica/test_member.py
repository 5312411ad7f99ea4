"""Members from directory to doors: they form, lead, save, restart, catch up by rows, and come back as copies."""

from contextlib import closing
from pathlib import Path
from random import Random
from types import MappingProxyType

import pytest
from replica_stage import InlineDisk, one_turn
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from twisted_kv.consensus.raft.messages import MESSAGES
from twisted_kv.consensus.raft.node import RaftNode
from twisted_kv.errors import BadRequest, StartRefused
from twisted_kv.interfaces import NotSent, SaveRefused
from twisted_kv.machines.commands import GROUP_COMMANDS, Configure, Done, Open, Operation, Read, Write
from twisted_kv.machines.configuration import Member as Listed
from twisted_kv.machines.configuration import empty_configuration, shard_of, successor
from twisted_kv.machines.group import GroupMachine
from twisted_kv.machines.rows import Row
from twisted_kv.replica.member import Member, Parts
from twisted_kv.storage.directory import open_directory
from twisted_kv.storage.log_store import LogStore
from twisted_kv.transport.wire import IAM, PEER_STEP, WHO

GID = 7
CONFIGURATION = successor(empty_configuration(4), (Listed(GID, 1, ("e",)),), (GID,) * 4)


class Closable(InlineDisk):
    def __init__(self):
        self.closed = succeed(None)

    def close(self):
        return self.closed


class Post:
    """A network of one clock: what is sent arrives in the next turn, unless the line is cut."""

    def __init__(self, clock):
        self.clock = clock
        self.doors = {}
        self.cut = set()

    def send(self, endpoint, verb, body):
        self.clock.callLater(0, self._arrive, endpoint, verb, body)

    def _arrive(self, endpoint, verb, body):
        if endpoint in self.doors and endpoint not in self.cut:
            self.doors[endpoint][verb](body)

    def call(self, endpoint, verb, body, timeout):
        if endpoint not in self.doors or endpoint in self.cut:
            return fail(NotSent("nobody listens"))
        return self.doors[endpoint][verb](body)


class NoChores:
    work = MappingProxyType({})


class Group:
    def __init__(self, path: Path, size=3, log_bytes_max=-1):
        self.path = path
        self.clock = Clock()
        self.post = Post(self.clock)
        self.peers = {node: f"e{node}" for node in range(1, size + 1)}
        self.log_bytes_max = log_bytes_max
        self.members = {}
        self.machines = {}
        self.data_disks = {}
        self.failures = []
        for node in self.peers:
            self.start(node)

    def start(self, node, gid=GID, path=None):
        machine = GroupMachine(gid)
        self.data_disks[node] = Closable()
        parts = Parts(
            kind="group",
            gid=gid,
            node=node,
            peers=self.peers,
            directory=open_directory(str(path or self.path / str(node)), synchronous="OFF", ballast_bytes=0),
            log_disk=Closable(),
            data_disk=self.data_disks[node],
            read_disk=Closable(),
            network=self.post,
            clock=self.clock,
            random=Random(f"{node}/{len(self.machines)}"),
            make_core=lambda me, voters, restored, applied: RaftNode(
                me, voters, restored, Random(node), applied=applied
            ),
            codec=MESSAGES,
            consensus="raft",
            machine=machine,
            log_bytes_max=self.log_bytes_max,
        )
        # A group whose chores are nobody's: configurations are logged by hand here.
        machine.chores = lambda: ()
        try:
            member = Member(
                parts, lambda replica, waits: {}, lambda replica, identity: NoChores(), self.failures.append
            )
        except StartRefused:
            parts.directory.close()
            raise
        self.members[node] = member
        self.machines[node] = machine
        self.post.doors[self.peers[node]] = member.doors
        member.start().addErrback(self.failures.append)

    def stop(self, node):
        done = self.members.pop(node).stop()
        self.later(3)
        assert done.called
        del self.post.doors[self.peers[node]]

    def later(self, seconds):
        for _ in range(int(seconds / 0.01)):
            self.clock.advance(0.01)

    def leader(self):
        for _ in range(100):
            for node, member in self.members.items():
                if member.replica is not None and member.replica.leads:
                    return node
            self.later(0.1)
        raise AssertionError("nobody leads")

    def submit(self, command):
        done = self.members[self.leader()].replica.submit(GROUP_COMMANDS.encode(command))
        self.later(0.5)
        return done.result

    def furnish(self, count):
        assert self.submit(Configure("C", CONFIGURATION, True)) == Done(True)
        self.numbers = [done.value for done in self.submit(Open((0, 1, 2, 3), bytes(16)))]
        self.sequence = 0
        self.put(count)

    def put(self, count):
        for place in range(count):
            self.sequence += 1
            key = f"k{place}"
            session = self.numbers[shard_of(key, 4)]
            (outcome,) = self.submit(
                Write((Operation("p", key, f"v{self.sequence}", session, self.sequence, self.sequence),))
            )
            assert outcome == Done(None)

    def digests(self):
        return {machine.digest() for node, machine in self.machines.items() if node in self.members}

    def close(self):
        for node in list(self.members):
            self.stop(node)


@pytest.fixture
def grouped(tmp_path):
    groups = []

    def make(**facts):
        groups.append(Group(tmp_path, **facts))
        return groups[-1]

    yield make
    for group in groups:
        group.close()


def test_three_members_form_lead_and_agree(grouped):
    group = grouped()
    group.furnish(5)
    group.later(1)
    assert len(group.digests()) == 1
    assert group.failures == []


def test_a_single_member_forms_alone(grouped):
    group = grouped(size=1)
    group.furnish(2)
    assert group.members[1].status()["role"] == "leader"


def test_identity_is_told_once_formed(grouped):
    """WHO needs no quorum; the identity is the same on all members."""
    group = grouped()
    group.leader()
    told = {IAM.decode(member.doors[WHO](b"").result) for member in group.members.values()}
    assert {(iam.gid, iam.node) for iam in told} == {(GID, 1), (GID, 2), (GID, 3)}
    assert len({iam.identity for iam in told}) == 1


def test_hazard_18_restart_brings_back_state_and_sessions_as_one(grouped):
    """Hazards 18, 19, 41: rows, index and sessions are of one moment; the tail is replayed over them once."""
    group = grouped(size=1, log_bytes_max=300)
    group.furnish(10)
    before = group.digests()
    group.stop(1)
    group.start(1)
    group.leader()
    assert group.digests() == before


def test_a_member_answers_while_it_reads_its_rows(grouped):
    """A turn for each chunk; and a stop in the midst of it is a clean one."""
    group = grouped(size=1)
    group.later(1)
    group.stop(1)
    with closing(open_directory(str(group.path / "1"), synchronous="OFF", ballast_bytes=0)) as directory:
        checkpoint = directory.data.checkpoint()
        checkpoint.write([Row(0, 1, "key", f"{place:04}", "v" * 1000) for place in range(1000)])
        checkpoint.commit(1, 1)
    group.start(1)
    seen = [group.members[1].status()["keys"]]
    while seen[-1] < 1000:
        one_turn(group.clock)
        seen.append(group.members[1].status()["keys"])
    assert seen == [seen[0], 2 * seen[0], 3 * seen[0], 4 * seen[0], 1000]
    group.stop(1)
    group.start(1)
    one_turn(group.clock)
    stopping = group.members.pop(1).stop()
    group.later(3)
    assert stopping.called
    assert group.failures == []


def test_restart_without_a_checkpoint_replays_the_log(grouped):
    group = grouped(size=1)
    group.furnish(4)
    before = group.digests()
    group.stop(1)
    group.start(1)
    group.leader()
    assert group.digests() == before


def test_log_is_cut_behind_checkpoints(grouped):
    """The log stays within about two checkpoints' worth, however much was written."""
    group = grouped(size=1, log_bytes_max=500)
    group.furnish(60)
    status = group.members[1].replica.status()
    assert status.first > 1
    assert status.last - status.first < 20


def test_hazard_31_a_follower_beyond_the_log_gets_rows(grouped):
    """Hazards 31 to 33: rows replace everything at once, the log goes on behind them, sessions included."""
    group = grouped(log_bytes_max=500)
    group.furnish(2)
    behind = next(node for node in group.members if node != group.leader())
    group.post.cut.add(group.peers[behind])
    group.put(60)
    assert group.members[group.leader()].replica.status().first > group.members[behind].replica.status().last
    group.post.cut.clear()
    group.later(5)
    group.put(1)
    group.later(1)
    assert len(group.digests()) == 1
    assert group.failures == []
    group.stop(behind)
    group.start(behind)
    group.later(2)
    assert len(group.digests()) == 1


@pytest.mark.parametrize("refused", ["write", "commit"])
def test_hazard_28_rows_that_find_no_room_are_asked_for_again(grouped, refused):
    """A full disk is no reason to stop; with room again the follower catches up without help."""
    group = grouped(log_bytes_max=500)
    group.furnish(2)
    behind = next(node for node in group.members if node != group.leader())
    disk, full = group.data_disks[behind], [True]

    def run(work):
        if full and getattr(getattr(work, "func", None), "__name__", "") == refused:
            work.func.__self__.abort()  # as SQLite does
            return fail(SaveRefused("data.sqlite3: database or disk is full"))
        return Closable.run(disk, work)

    disk.run = run
    group.post.cut.add(group.peers[behind])
    group.put(60)
    group.post.cut.clear()
    group.later(5)
    assert len(group.digests()) == 2
    full.clear()
    group.later(5)
    assert len(group.digests()) == 1
    assert group.failures == []


def test_hazard_09_a_wiped_member_follows_as_a_copy(grouped, tmp_path):
    """It gets the log, says so in its status, and its answers make no majority."""
    group = grouped()
    group.furnish(3)
    wiped = next(node for node in group.members if node != group.leader())
    group.stop(wiped)
    group.start(wiped, path=tmp_path / "blank")
    group.later(5)
    assert group.members[wiped].status()["role"] == "copy"
    assert group.members[wiped].status()["voter"] is False
    assert len(group.digests()) == 1
    other = next(node for node in group.members if node not in (wiped, group.leader()))
    group.stop(other)
    group.later(5)
    assert not any(member.replica.leads for member in group.members.values())


def test_nonsense_at_the_door_of_peers_is_a_bad_request(grouped):
    """S13: the broker tells such failures in the log at a bounded rate; nothing is stepped."""
    group = grouped(size=1)
    group.leader()
    seen = []
    group.members[1].doors[PEER_STEP](b"nonsense").addErrback(seen.append)
    assert seen[0].check(BadRequest)


def test_clean_stop_hands_leadership_over(grouped):
    group = grouped()
    group.furnish(1)
    first = group.leader()
    term = group.members[first].replica.status().term
    group.stop(first)
    second = group.leader()
    assert second != first
    assert group.members[second].replica.status().term == term + 1


def test_hazard_27_a_stop_waits_for_the_files_of_a_member_that_stops_by_itself(grouped):
    """Whoever stops the process after a failure hears when the disks are closed: their threads would keep it alive."""
    group = grouped(size=1)
    group.leader()
    closed = group.data_disks[1].closed = Deferred()
    group.members[1].failed(Failure(OSError("disk I/O error")))
    stopped = group.members[1].stop()
    assert len(group.failures) == 1
    assert not stopped.called
    closed.callback(None)
    assert stopped.called


def test_reads_reflect_what_was_written(grouped):
    group = grouped()
    group.furnish(1)
    answer = group.members[group.leader()].replica.read(Read(("k0", "none")))
    group.later(0.5)
    assert answer.result == (Done("v1"), Done(None))


@pytest.mark.parametrize(("node", "gid"), [(2, GID), (1, GID + 1)])
def test_hazard_37_a_directory_of_another_member_is_refused(grouped, tmp_path, node, gid):
    group = grouped(size=3)
    group.leader()
    group.stop(1)
    with pytest.raises(StartRefused, match="belongs to"):
        group.start(node, gid=gid, path=tmp_path / "1")


def test_a_full_disk_refuses_to_be_bound_with_a_line(grouped, tmp_path, monkeypatch):
    def bind(log, facts):
        raise SaveRefused("log.sqlite3: database or disk is full")

    group = grouped(size=1)
    monkeypatch.setattr(LogStore, "bind", bind)
    with pytest.raises(StartRefused, match="make room"):
        group.start(1, path=tmp_path / "new")


def test_hazard_16_nothing_is_acknowledged_by_a_minority(grouped):
    group = grouped()
    group.furnish(1)
    leader = group.leader()
    for node in group.members:
        if node != leader:
            group.post.cut.add(group.peers[node])
    answer = group.members[leader].replica.submit(GROUP_COMMANDS.encode(Write(())))
    seen = []
    answer.addErrback(seen.append)
    group.later(3)
    assert answer.called
    assert len(seen) == 1
