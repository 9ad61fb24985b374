"""How long an entry waits for more commands: not at all unless waiting wins time (principle 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.replica.gathering import Gathering

MOST_S = 0.02


def after(gaps_s: list[float], commits_s: list[float]) -> Gathering:
    """Commands with such gaps between them, and entries that took so long."""
    gathering, now_s = Gathering(MOST_S), 0.0
    for gap_s in gaps_s:
        now_s += gap_s
        gathering.came(now_s)
    for took_s in commits_s:
        gathering.committed(took_s)
    return gathering


DENSE, SPARSE = [0.0002] * 100, [0.05] * 100
QUIET, LOADED = [0.001] * 50, [0.001] + [0.003] * 50


@pytest.mark.parametrize(
    ("gaps_s", "commits_s", "waits"),
    [
        ([], [], False),
        (DENSE, [], False),
        (DENSE, QUIET, False),
        (SPARSE, LOADED, False),
        (DENSE, LOADED, True),
        (SPARSE + DENSE, LOADED, True),
        (DENSE + SPARSE, LOADED, False),
    ],
)
def test_entries_wait_where_commands_are_dense_and_commits_slower_than_they_can_be(
    gaps_s: list[float], commits_s: list[float], waits: bool
) -> None:
    assert (after(gaps_s, commits_s).wait_s > 0) == waits


def test_the_wait_grows_with_what_the_load_adds_up_to_its_bound() -> None:
    waits_s = [after(DENSE, [0.001, *[took_s] * 50]).wait_s for took_s in (0.0015, 0.003, 0.1)]
    assert 0 < waits_s[0] < waits_s[1] < waits_s[2] == MOST_S


def test_what_is_sure_to_come_is_worth_the_same_wait_however_sparse_commands_are() -> None:
    dense, sparse = after(DENSE, LOADED), after(SPARSE, LOADED)
    assert sparse.worth_s == dense.worth_s == dense.wait_s > 0
    assert after(SPARSE, QUIET).worth_s == 0


def test_a_disk_that_has_become_slower_is_no_load_in_the_end() -> None:
    slower = after(DENSE, [0.001] * 50 + [0.01] * 50)
    assert slower.wait_s > 0
    for _ in range(20_000):
        slower.committed(0.01)
    assert slower.wait_s < 0.001


@given(
    st.lists(st.floats(-1.0, 1e6), max_size=20),
    st.lists(st.floats(0.0, 1e6), max_size=20),
)
def test_whatever_the_clock_says_the_wait_is_within_its_bounds(
    gaps_s: list[float], commits_s: list[float]
) -> None:
    assert 0.0 <= after(gaps_s, commits_s).wait_s <= MOST_S
