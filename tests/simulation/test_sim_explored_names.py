"""Numbers for values, and which exchanges of names are worth trying."""

from __future__ import annotations

from twisted_kv.simulation.explorer.frozen import renamed
from twisted_kv.simulation.explorer.names import Numbers, Renamings


def renamings() -> Renamings:
    return Renamings(3, frozenset({"node"}), lambda value: value)


def test_equal_values_have_one_number() -> None:
    numbers = Numbers()
    assert [numbers["a"], numbers["b"], numbers["a"]] == [0, 1, 0]
    assert numbers.of == ["a", "b"]


def test_only_orders_in_which_the_shapes_ascend_are_tried() -> None:
    [only] = renamings().worth_trying((5, 3, 4), 0)
    assert only.places == (2, 0, 1) and not only.alters_nothing
    [none] = renamings().worth_trying((3, 4, 5), 1)
    assert none.alters_nothing
    assert len(renamings().worth_trying((3, 3, 5), 0)) == 2
    assert len(renamings().worth_trying((3, 3, 3), 2)) == 6 * 2
    assert len(list(renamings().all())) == 6


def test_a_renaming_remembers_numbers_and_puts_values_in_order() -> None:
    tidied = []
    made = Renamings(3, frozenset(), lambda value: tidied.append(value) or value)
    numbers = Numbers()
    number = numbers[b"1"]
    other = next(it for it in made.worth_trying((0, 1, 2), 2) if not it.alters_nothing)
    assert numbers.of[other.of(numbers, number)] == b"2" == renamed(b"1", {}, {b"1": b"2"}, frozenset())
    assert other.of(numbers, number) == numbers[b"2"]
    assert tidied == [b"2"]
