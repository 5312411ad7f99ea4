"""What a leader believes of a peer: probe, stream, snapshot."""

from twisted_kv.consensus.raft.progress import Pace, Progress


def streaming(match=10):
    peer = Progress(match + 1)
    peer.sent(match, 0)
    peer.acked(match, 0)
    assert peer.pace is Pace.STREAM
    return peer


def test_a_probe_is_one_question_at_a_time():
    peer = Progress(5)
    assert peer.may_send(4, 9, 9), "even with nothing to send: where do we agree?"
    peer.sent(9, 100)
    assert not peer.may_send(20, 9, 900)
    assert peer.next == 5, "nothing is taken for granted while probing"


def test_a_stream_runs_ahead_within_its_window_of_messages_and_bytes():
    """Thesis §10.2.1."""
    peer = streaming()
    assert not peer.may_send(10, 2, 100), "up to date: nothing to resend"
    peer.sent(11, 60)
    assert peer.next == 12 and peer.may_send(15, 2, 100)
    peer.sent(12, 10)
    assert not peer.may_send(15, 2, 100), "two messages"
    assert peer.acked(11, 0) and peer.match == 11 and peer.may_send(15, 2, 100)
    peer.sent(13, 90)
    assert not peer.may_send(15, 9, 100), "a hundred bytes"
    assert peer.acked(13, 0) and peer.may_send(15, 1, 1)


def test_hazard_14_an_old_answer_moves_nothing_back():
    peer = streaming(10)
    peer.sent(12, 5)
    assert not peer.acked(3, 0)
    assert (peer.match, peer.next) == (10, 13)
    assert not peer.refused(9) and not peer.refused(10)
    assert peer.refused(12)


def test_hazard_13_a_repeated_refusal_does_not_probe_twice():
    peer = streaming(10)
    peer.sent(20, 5)
    assert peer.refused(20)
    peer.probe(15)
    peer.sent(16, 5)
    assert not peer.refused(20) and peer.refused(14)
    peer.probe(3)
    assert peer.next == 11, "never at or below what is known to match"


def test_a_refusal_while_rows_are_awaited_says_nothing():
    peer = Progress(5)
    peer.await_rows()
    assert not peer.refused(4)


def test_awaited_rows_end_only_beyond_the_boundary():
    peer = Progress(5)
    peer.await_rows()
    assert peer.acked(20, boundary=30)
    assert peer.pace is Pace.SNAPSHOT and not peer.may_send(40, 9, 9)
    assert peer.acked(30, boundary=30)
    assert peer.pace is Pace.STREAM and peer.next == 31


def test_a_heartbeat_answered_lets_a_probe_or_an_offer_go_again():
    for peer in (Progress(5), streaming()):
        peer.lost()
        peer.sent(9, 9)
        assert not peer.may_send(9, 9, 9)
        assert not peer.beaten() and peer.may_send(9, 9, 9)


def test_a_stream_is_stuck_when_one_append_is_under_way_over_two_heartbeats():
    """Scenario §3.1-9: a peer that merely answers late is not asked again."""
    peer = streaming(10)
    assert not peer.beaten()
    peer.sent(11, 1)
    assert not peer.beaten()
    peer.acked(11, 0)
    peer.sent(12, 1)
    assert not peer.beaten(), "another append than at the last heartbeat"
    assert peer.beaten()


def test_a_lost_peer_is_probed_from_where_it_matched_once_it_is_heard():
    peer = streaming(10)
    peer.sent(20, 5)
    peer.lost()
    assert (peer.pace, peer.next, peer.paused) == (Pace.PROBE, 11, True)
