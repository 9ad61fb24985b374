"""What is put off is done, in its order, and once: how a leader sees to its own books (decision 14)."""

from __future__ import annotations

from functools import partial

import pytest

from coordinator.replica.unhurried import Unhurried


def test_what_comes_in_a_hurry_waits_and_all_else_does_not() -> None:
    work, done = Unhurried(), list[int]()
    work.do(partial(done.append, 1))
    with work.hurry():
        work.do(partial(done.append, 2))
        work.do(partial(done.append, 3))
        assert done == [1]
    assert done == [1]
    work.catch_up()
    work.catch_up()
    assert done == [1, 2, 3]


def test_a_hurry_that_fails_is_over() -> None:
    work, done = Unhurried(), list[int]()
    with pytest.raises(ZeroDivisionError), work.hurry():
        raise ZeroDivisionError
    work.do(partial(done.append, 1))
    assert done == [1]
