"""A client with large values."""

from twisted.internet.defer import fail, succeed

from twisted_kv.constants import VALUE_BYTES_DEFAULT, WIRE_PART_BYTES
from twisted_kv.errors import OutcomeUnknown
from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.lives.bulk import Hauler


class Memory:
    """A Clerk that keeps what it is given, until it fails."""

    def __init__(self):
        self.values = {}
        self.put_keys = []
        self.broken = False

    def put(self, key, value, *, timeout):
        self.put_keys.append(key)
        self.values[key] = value
        return fail(OutcomeUnknown("?")) if self.broken else succeed(None)

    def get(self, key, default, *, timeout):
        return succeed(self.values.get(key, default))


def test_a_hauler_puts_and_reads_values_that_cross_in_parts_and_leaves_keys_of_unknown_outcome():
    world, clerk, history = World(1), Memory(), History()
    hauler = Hauler("h", clerk, history, world.clock, world.random_for("h"))
    hauler.start()
    world.run_for(1)
    assert all(WIRE_PART_BYTES < len(value) < VALUE_BYTES_DEFAULT for value in clerk.values.values())
    assert len(set(clerk.put_keys)) == 2
    assert history.writes_count < len(history)
    clerk.broken = True
    world.run_for(1)
    hauler.stop()
    world.run_for(1)
    assert hauler.idle
    assert hauler.wrong == []
    later = clerk.put_keys[-history.unknown_count + 1 :]
    assert len({key.partition("/")[0] for key in later}) == len(later), "after each unknown outcome another one"
