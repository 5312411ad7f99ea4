"""Faults planted into servers on purpose, to see that the hunt bites: each breaks one promise, none breaks a start."""


def plant(name):
    """Sabotage this process."""
    PLANTS[name]()


def sessions_forgotten():
    """A write that comes again is executed again (hazards 40, 41)."""
    from twisted_kv.machines.sessions import Sessions

    recall = Sessions.recall

    def forgetful(self, number, sequence, floor, digest):
        session = self._sessions.get(number)
        if session is not None and sequence in session.results:
            self._drop(number, session, sequence)
        return recall(self, number, sequence, floor, digest)

    Sessions.recall = forgetful


def reads_unconfirmed():
    """A leader that hears nobody goes on to lead, and answers reads by itself (hazards 7, 22, 25)."""
    from twisted.internet.defer import succeed

    from twisted_kv.consensus.raft import election
    from twisted_kv.consensus.types import NotLeader
    from twisted_kv.replica.replica import Replica

    def read(self, query):
        if not self.leads:
            raise NotLeader
        return succeed(self._machine.query(query))

    Replica.read = read
    election.check_quorum = lambda state, role: None


def votes_forgotten():
    """Term and vote are never saved (hazard 1)."""
    from msgspec.structs import replace

    from twisted_kv.storage.log_store import LogStore

    save = LogStore.save
    LogStore.save = lambda self, ready: save(self, replace(ready, hard_state=None))


def commits_alone():
    """What one member has saved counts as committed (hazards 16, 17)."""
    from twisted_kv.consensus.raft import replication

    replication.committed_index = lambda acked, voters: max(acked.values(), default=0)


PLANTS = {
    plant.__name__.replace("_", "-"): plant
    for plant in (sessions_forgotten, reads_unconfirmed, votes_forgotten, commits_alone)
}
