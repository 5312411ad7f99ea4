"""A client whose keys come and go."""

from twisted.internet.defer import succeed

from twisted_kv.simulation.doors.world import World
from twisted_kv.simulation.judges.history import History
from twisted_kv.simulation.lives.lodger import LODGED_MAX, VALUE_CHARACTERS, Lodger


class Memory:
    """A Clerk that keeps what it is given, and what was ever there."""

    def __init__(self):
        self.values = {}
        self.gone = []
        self.most = 0

    def put(self, key, value, *, timeout):
        assert key not in self.values and key not in self.gone
        return self.put_hash(key, value, timeout=timeout)

    def put_hash(self, key, value, *, timeout):
        assert key not in self.gone
        self.values[key] = value
        self.most = max(self.most, len(self.values))
        return succeed(None)

    def get(self, key, default, *, timeout):
        return succeed(self.values[key])

    def delete(self, key, *, timeout):
        del self.values[key]
        self.gone.append(key)
        return succeed(True)


def test_keys_of_a_lodger_are_of_one_shard_come_once_and_go_for_good():
    world, clerk, history = World(1), Memory(), History()
    lodger = Lodger("l", clerk, history, world.clock, world.random_for("l"), tag="key0")
    lodger.start()
    world.run_for(5)
    lodger.stop()
    world.run_for(1)
    assert lodger.idle and lodger.wrong == []
    assert 1 < clerk.most <= LODGED_MAX < len(clerk.gone)
    assert all(key.startswith("{key0}/l/") for key in clerk.gone)
    assert {len(value) for value in clerk.values.values()} == {VALUE_CHARACTERS}
