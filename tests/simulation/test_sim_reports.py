"""What a person is shown of a life."""

from twisted_kv.simulation.doors.world import Event
from twisted_kv.simulation.judges.checkers import EQUAL, ONE_LEADER, Violation
from twisted_kv.simulation.lives.reports import JUDGE, RUN, STORY_LINES_MAX, Report, shortened


def told(at, actor, what, **facts):
    return Event(at, actor, what, tuple(facts.items()))


def report(violations=(), void="", story=()):
    return Report(7, "calm", violations, story, "d", {"calls": 3.0}, {}, void)


def test_the_three_verdicts_are_said_in_words():
    """A run with too little load is not green (hazards §1, habit e)."""
    assert str(report()) == "seed 7, plan calm: ok (calls 3)"
    assert str(report(void="2 writes")) == "seed 7, plan calm: void: 2 writes"
    assert report(void="2 writes").verdict == "void"
    assert report((Violation(EQUAL, "x"),)).verdict == "VIOLATION"


def test_a_violation_comes_with_its_checker_the_story_and_the_command():
    """Contract §2, simulate."""
    text = str(report((Violation(EQUAL, "a and b differ"),), story=("it was night",)))
    assert "seed 7, plan calm: VIOLATION\n" in text
    assert "  equal digests: a and b differ\n" in text
    assert "    it was night\n" in text
    assert text.endswith("  replay: twisted-kv simulate --seed 7 --plan calm --trace")


def test_of_a_long_traceback_the_end_is_shown():
    lines = str(report((Violation(EQUAL, "\n".join(f"line {n}" for n in range(100))),))).split("\n")
    assert len(lines) < 20
    assert "line 99" in lines[-3]
    assert "87 lines" in str(lines)


def test_of_many_findings_of_a_kind_the_first_are_shown():
    violations = (*(Violation(EQUAL, f"finding {n}") for n in range(20)), Violation(ONE_LEADER, "two"))
    lines = str(report(violations)).split("\n")
    assert lines[1:4] == [f"  equal digests: finding {n}" for n in range(3)]
    assert lines[4] == "  equal digests: … 17 more"
    assert "two" in lines[5]


STORY = [
    told(0.0, RUN, "begins", plan="calm"),
    told(0.1, "g100-1", "Standing: leader in term 1, leader 1"),
    told(0.2, "g101-1", "Standing: leader in term 1, leader 1"),
    told(1.0, RUN, "faults begin"),
    told(1.1, "nemesis", "crash"),
    told(1.1, "g101-1", "is killed"),
    told(1.2, "nemesis", "crash"),
    told(1.2, "g100-2", "is killed"),
    told(1.3, "nemesis", "storm"),
    *(told(2.0 + n / 10, "g100-1", "Saves finish again") for n in range(5)),
]


def test_the_story_is_told_by_phases_and_of_those_who_are_named():
    lines = shortened(STORY, [Violation(ONE_LEADER, "g100-1 and g100-2 both")])
    assert lines == [
        "── 0.000 s: begins plan=calm",
        "    0.100 g100-1    Standing: leader in term 1, leader 1",
        "── 1.000 s: faults begin",
        "    1.200 nemesis   crash",
        "    1.200 g100-2    is killed",
        "    1.300 nemesis   storm",
        "    2.000 g100-1    Saves finish again (×5, until 2.400)",
    ]


def test_a_group_stands_for_its_members_and_nobody_for_all():
    assert "g101-1" in "".join(shortened(STORY, [Violation(ONE_LEADER, "group 101 has two leaders")]))
    assert "g100" not in "".join(shortened(STORY, [Violation(ONE_LEADER, "group 101 has two leaders")]))
    everybody = "".join(shortened(STORY, [Violation(EQUAL, "key is not linearizable")]))
    assert "g100-1" in everybody and "g101-1" in everybody
    controllers = [told(0.0, "ctl-2", "boots"), told(0.0, "g100-1", "boots")]
    assert shortened(controllers, [Violation(EQUAL, "members of group 0 differ")]) == ["    0.000 ctl-2     boots"]


def test_a_long_story_is_cut_in_its_earlier_phases_and_says_so():
    story = [told(0.0, RUN, "begins"), *(told(n, "g100-1", f"did {n}") for n in range(500))]
    story += [told(600.0, RUN, "faults end"), told(601.0, "g100-1", "the end")]
    lines = shortened(story, [])
    assert len(lines) <= STORY_LINES_MAX
    assert lines[0].endswith("begins")
    assert "more" in lines[1]
    assert lines[-1].endswith("the end")


def test_the_moment_at_which_something_was_found_is_in_the_story():
    story = [told(0.0, RUN, "begins"), *(told(1 + n, "g100-1", f"did {n}") for n in range(200))]
    story.insert(100, told(99.5, JUDGE, "finds: equal digests"))
    story += [told(300.0, RUN, "faults end"), *(told(301 + n, "g100-1", f"came {n}") for n in range(200))]
    lines = shortened(story, [Violation(EQUAL, "g100-1 and g100-2 differ")])
    assert len(lines) <= STORY_LINES_MAX
    place = next(number for number, line in enumerate(lines) if "finds: equal digests" in line)
    assert "did 98" in lines[place - 1]
    assert place > STORY_LINES_MAX // 2
    assert "came 199" in lines[-1]
