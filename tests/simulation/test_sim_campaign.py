"""A campaign goes on where it stopped, and everything that was lived is on record once."""

import pytest

from twisted_kv.simulation.judges.checkers import EQUAL, Violation
from twisted_kv.simulation.lives import campaign as module
from twisted_kv.simulation.lives import run
from twisted_kv.simulation.lives.campaign import STRETCH, Campaign, Unusable, by_program, program_digest, read, to_live
from twisted_kv.simulation.lives.reports import Report


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Lives that are over at once; every tenth finds something."""

    def run_seed(seed, plan):
        wrong = () if seed % 10 else (Violation(EQUAL, "x"),)
        return Report(seed, plan.name, wrong, (), "", {"calls": 10.0, "faults": 2.0})

    monkeypatch.setattr(run, "run_seed", run_seed)
    monkeypatch.setattr(module, "program_digest", lambda: "aaa")


def live(file, count, wanted=lambda: True, plan="calm"):
    campaign = Campaign(file, plan, lambda: 0.0)
    return [report.seed for report in campaign.lives(campaign.left(1, count), 1, wanted)]


def test_it_goes_on_where_it_stopped(tmp_path):
    file = tmp_path / "lives.jsonl"
    answers = iter([True] * 61 + [False] * 9)
    first = live(file, 120, lambda: next(answers))
    assert 0 < len(first) < 120
    assert first + live(file, 120) == list(range(1, 121))
    assert live(file, 120) == []
    assert live(file, 125) == [121, 122, 123, 124, 125]
    [(seeds, _, tally)] = by_program(read(file)).values()
    assert seeds == [(1, 125)]
    assert (tally.total.lives, tally.total.violated, tally.total.calls) == (125, 12, 1250)
    assert [failed.seed for failed in tally.failed] == list(range(10, 125, 10))


def test_what_was_lived_when_somebody_interrupts_is_on_record(tmp_path):
    file = tmp_path / "lives.jsonl"
    campaign = Campaign(file, "calm", lambda: 0.0)
    going = campaign.lives(campaign.left(1, 100), 1, lambda: True)
    for _ in range(STRETCH + 7):
        next(going)
    going.close()
    assert [record.seeds for record in read(file)] == [[(1, STRETCH)], [(STRETCH + 1, STRETCH + 7)]]


def test_another_program_or_plan_begins_at_the_beginning(tmp_path, monkeypatch):
    """What one program did proves nothing of another."""
    file = tmp_path / "lives.jsonl"
    live(file, 3)
    assert live(file, 3, plan="lossy") == [1, 2, 3]
    monkeypatch.setattr(module, "program_digest", lambda: "bbb")
    assert live(file, 3) == [1, 2, 3]
    assert list(by_program(read(file))) == [("aaa", "calm"), ("aaa", "lossy"), ("bbb", "calm")]
    assert list(to_live(read(file), "bbb", "calm", 2, 4)) == [4, 5]


def test_a_line_that_was_cut_off_is_left_out_and_overwritten(tmp_path):
    file = tmp_path / "lives.jsonl"
    live(file, 3)
    with file.open("ab") as stream:
        stream.write(b'{"program": "aa')
    assert len(read(file)) == 1
    assert live(file, 5) == [4, 5]
    assert len(read(file)) == 2


def test_another_kind_of_file_is_refused(tmp_path):
    file = tmp_path / "lives.jsonl"
    file.write_text("shopping list\n")
    with pytest.raises(Unusable, match="is no campaign"):
        read(file)
    assert file.read_text() == "shopping list\n"


def test_the_digest_is_of_the_whole_source(tmp_path, monkeypatch):
    digest = program_digest()
    assert (len(digest), program_digest()) == (12, digest)
    (tmp_path / "__init__.py").write_text("a = 1\n")
    monkeypatch.setattr(module.twisted_kv, "__file__", str(tmp_path / "__init__.py"))
    before = program_digest()
    (tmp_path / "more.py").write_text("b = 1\n")
    assert len({digest, before, program_digest()}) == 3
