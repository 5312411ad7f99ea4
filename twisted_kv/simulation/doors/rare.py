"""The rare events that a hunt must reach, by name: what each is, in one sentence.

A simulation that never gets there proves nothing about the code behind it, so each is counted where it is certain
to have happened (``World.reach``), and a sweep in which one never happened fails. It decides which names there are;
who sees what is in ``sights``.

The list follows hazards §2 and scenarios §3: for each branch that was wrong in some other system, that it was taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SELDOM: Final = frozenset({"walk goes on further back"})
"""Rare among the rare, in one life of twenty of two plans: a sweep of some minutes is not asked for it, a campaign
shows it. Its branch has a directed test (tests/machines/test_giving.py)."""

RARE: Final[Mapping[str, str]] = {
    # ── elections ──────────────────────────────────────────────────────────────────────────────────
    "vote refused to a shorter log": "A candidate was refused because the voter's log held more (§5.4.1).",
    "pre-vote refused": "Somebody who wondered whether it could win was told no (thesis §9.6).",
    "election without a winner": "A candidate stood again in a later term and had not led the one before.",
    "leader without a quorum": "A leader stepped down because a quorum was silent (hazard 7).",
    "leader with a hung disk": "A leader stepped down because its own save did not finish (hazard 7).",
    "leader with a full disk": "A leader stepped down because there was no room for its save (hazard 28).",
    "leadership handed over": "A node led in a term that its predecessor had asked it to begin (thesis §3.10).",
    "two leaders at once": "A node came to lead while another one of an older term still believed to lead.",
    "answer to an earlier leadership": "A leader was given an answer to what it had sent in an older term that it led.",
    "vote of an earlier term": "A vote of an older term reached somebody who had stood again since (hazard 5).",
    # ── replication ────────────────────────────────────────────────────────────────────────────────
    "log cut on conflict": "A follower deleted saved entries that contradicted its leader's (§5.3).",
    "entry of an older term committed": "A leader committed entries of an older term by one of its own (§5.4.2).",
    "majority without commitment": "An entry of an older term stood on a majority and was not committed by counting.",
    "command overwritten": "Another leader's entry was applied in the place of a command that was proposed.",
    "abandoned command committed": "A leader gave up a command when it stepped down, and it was committed after all.",
    "several entries in a turn": "What was proposed in one turn did not fit into one entry.",
    "message out of limbo": "A message arrived that had been held back until another leadership had begun.",
    # ── reads ──────────────────────────────────────────────────────────────────────────────────────
    "read before the first commit": "A leader was asked to read before an entry of its own term was committed.",
    "read abandoned": "A leadership ended while reads waited for their confirmation.",
    # ── snapshots and restarts ─────────────────────────────────────────────────────────────────────
    "snapshot installed": "A follower replaced its state by a peer's rows.",
    "snapshot overtaken": "The rows that arrived were newer than those that had been offered.",
    "snapshot failed": "Rows did not arrive whole, or were no newer than what was there.",
    "snapshot of a later term": "Rows came of a term that whoever asked for them had not heard of (hazard 15).",
    "snapshot in several chunks": "The rows of a snapshot came in more than one piece.",
    "rows without their log": "A member died with a peer's rows committed and its log not yet reset, and came back.",
    "tail replayed": "A member applied entries again that it had applied before it died.",
    "copy caught up by rows": "A wiped member came back as a copy, and was given rows.",
    "whole group down": "No member of a group was alive, and one came back.",
    "killed at a moment": "A member died right when it did what somebody waited for.",
    # ── disks ──────────────────────────────────────────────────────────────────────────────────────
    "save refused by a full disk": "Entries or votes found no room.",
    "checkpoint refused by a full disk": "Rows found no room.",
    "failed save came back": "A save that was reported as failed was there after the restart (hazard 27).",
    "torn write-ahead log harmless": "A member came back on a write-ahead log with the torn rest of a transaction.",
    "second process refused": "A process was started on a directory that another one was using (hazard 37).",
    "name lost with the power": "The power failed while a directory was opened, and took names that were not synced.",
    "flipped bit refused": "A member refused to start on a file in which a bit was flipped (hazard 34).",
    # ── on the wire ────────────────────────────────────────────────────────────────────────────────
    "strange error": "A call was carried out, and the other side failed in words that are not ours (hazard 40).",
    # ── sessions ───────────────────────────────────────────────────────────────────────────────────
    "repeat suppressed": "A write that stood in the log twice took effect once.",
    "repeat suppressed elsewhere": "A write took effect in one group, and its repeat was suppressed in another.",
    "session expired": "A write was refused because its session, or its place in it, was gone.",
    "not served when applied": "A command entered the log of a group that no longer served its shard (hazard 26).",
    # ── shards in motion ───────────────────────────────────────────────────────────────────────────
    "copied while served": "A giver gave rows of a shard that it went on serving.",
    "deletion crossed with its shard": "What was deleted while its shard was copied was deleted in the copy.",
    "walk goes on further back": "A giver gave rows of a walk that another one had begun with newer ones.",
    "install repeated": "A chunk that had been installed stood in the log again.",
    "pull resumed by a new leader": "A shard began to enter a group under one leader and went on under another.",
    "both directions at once": "A group took shards from another to which it was still giving others.",
    "drop repeated": "A giver was asked to drop what it had dropped already.",
    "shard back before it was dropped": "A group gained a shard of which it still held an older copy for its taker.",
    "parked shard regained": "A group took up again the shards that it had kept while there was no group.",
    "parked shard handed on": "Shards that were kept while there was no group went to another one.",
    "all groups left": "A configuration listed no group.",
    "configuration repeated": "A configuration stood in a group's log that was not the next one, or came too early.",
    # ── controllers ────────────────────────────────────────────────────────────────────────────────
    "controllers elect in mid-move": "The controllers had a new leader while a shard was under way.",
    "forward lost": "A controller passed a change on to its leader, and was not answered.",
    "change repeated": "An administrator's change stood in the controllers' log twice, and was carried out once.",
    "echo applied": "A command of the past was put to a leader once more, and stood in the log again.",
    "misquote refused": "A command of the past, with something else in it, stood in the log and was refused.",
    "group readdressed": "A group that stayed was given other endpoints.",
    "another group of the gid": "Processes learned that others are the group of the gid under which they run.",
}
