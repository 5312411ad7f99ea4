"""A cluster that does nothing but suffer, for tests of the nemesis."""

from twisted_kv.consensus.raft.messages import (
    MESSAGES,
    Append,
    AppendAck,
    AskVote,
    Heartbeat,
    HeartbeatAck,
    PreVoteAnswer,
    SnapshotOffer,
    TimeoutNow,
    VoteAnswer,
)
from twisted_kv.simulation.doors.disk import USUAL_SECONDS, SimDisk
from twisted_kv.simulation.doors.network import RELIABLE, Hub
from twisted_kv.transport.wire import STEP, Step


class Paper:
    """Members of three groups, by name."""

    def __init__(self, world):
        self.world = world
        self.hub = Hub(world)
        self.groups = {0: ["c1", "c2", "c3"], 100: ["a1", "a2", "a3"], 101: ["b1", "b2", "b3"]}
        self.hosts, self._disks = {}, {}
        self.suffered = []
        self.moment = None
        self.echoes = self
        for members in self.groups.values():
            for name in members:
                self.restart(name)

    @property
    def alive(self):
        return sorted(self.hosts)

    @property
    def dead(self):
        return sorted({name for members in self.groups.values() for name in members} - set(self.hosts))

    def leader(self, gid):
        return self.groups[gid][0]

    def kill(self, name, torn=False):
        self.suffered.append("power cut" if torn else "kill")
        self.hosts.pop(name).clock.stop()

    def terminate(self, name):
        self.kill(name)
        self.world.clock.callLater(0.2, lambda: name in self.hosts or self.restart(name))

    def wipe(self, name):
        self.suffered.append(name)
        if name in self.hosts:
            self.kill(name)

    flip = wipe

    def cut_at_start(self, name):
        self.suffered.append("cut at start")

    def start_twice(self, name):
        assert name in self.hosts
        self.suffered.append("started twice")

    def sound(self, seconds):
        self.suffered.append("echo")

    def misquote(self):
        self.suffered.append("misquote")

    def hush(self):
        self.suffered.append("silence")

    def leap(self, name, seconds):
        self.suffered.append("leap")
        self.hosts[name].clock.leap(seconds)

    def move_house(self, gid):
        self.suffered.append(f"moved {gid}")

    def invade(self):
        self.suffered.append("invaded")

    def restart(self, name):
        assert name not in self.hosts
        self.hosts[name] = host = self.world.host(name)
        self._disks[name] = [SimDisk(host, self.world.random_for(name)) for _ in "ld"]

    def hold(self, name, frozen=False):
        self.suffered.append("suspend" if frozen else "hold")
        self.hosts[name].clock.hold(frozen)

    def release(self, name):
        self.hosts[name].clock.release()

    def held(self, name):
        return self.hosts[name].clock.held

    def disks(self, name):
        return self._disks[name]

    def is_well(self):
        disks = [disk for name in self.alive for disk in self.disks(name)]
        return (
            not self.dead
            and not any(self.held(name) for name in self.alive)
            and all(disk.seconds == USUAL_SECONDS and not disk.full and not disk.stalled for disk in disks)
            and all(disk.fails_before == disk.fails_after == 0 for disk in disks)
            and not any(disk.trap_before or disk.trap_after for disk in disks)
            and not any(self.hub.severed(a, b) for a in self.alive for b in self.alive)
            and self.hub.conditions == RELIABLE
            and all(self.hub.link(a, b) == RELIABLE for a in self.alive for b in self.alive)
            and not self.withholds()
        )

    def withholds(self):
        body = MESSAGES.encode(tuple(ONE_OF_EACH))
        step = STEP.encode(Step(100, 1, "", 2, body))
        return any(self.hub.withheld(name, step) for name in self.alive for _ in range(200))


ONE_OF_EACH = (
    PreVoteAnswer(1, 2, 3, 4, True),
    AskVote(1, 2, 3, 4, 3, False),
    VoteAnswer(1, 2, 3, True),
    Append(1, 2, 3, 4, 3, 0, ()),
    AppendAck(1, 2, 3, 4),
    Heartbeat(1, 2, 3, 0, 0),
    HeartbeatAck(1, 2, 3, 0),
    SnapshotOffer(1, 2, 3, 4, 3),
    TimeoutNow(1, 2, 3),
)
