"""Who is to blame for failures: an agent for what it fails and others do not, nobody for what all fail
(D5)."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import Kind
from coordinator.core.model import TaskFamily
from coordinator.scheduling.learning.blame import Blame

KIND = Kind("t", "", TaskFamily.UNSPECIFIED, False)
OTHER = Kind("u", "", TaskFamily.UNSPECIFIED, False)
ROWS = 5


def shares(
    failed: list[int], completed: list[int], kind: Kind = KIND, blame: Blame | None = None
) -> list[float]:
    """After so many of each in each row."""
    blame = blame or Blame()
    if not len(blame.shares(1)):
        blame.fit(ROWS)
    for row, times in enumerate(completed):
        for before in range(times):
            blame.completed(kind, row, before)
    for row, times in enumerate(failed):
        for _ in range(times):
            blame.failed(kind, row, completed[row])
    blame.renew(kind, np.array(completed, np.float64))
    found: list[float] = blame.shares(ROWS).tolist()
    return found


def test_who_fails_what_others_do_is_to_blame() -> None:
    found = shares([10, 0, 0, 0, 0], [10, 20, 20, 20, 20])
    assert 0.4 < found[0] < 0.5
    assert found[1:] == [0, 0, 0, 0]


def test_what_everybody_fails_is_nobodys_fault() -> None:
    assert max(shares([10] * ROWS, [10] * ROWS)) < 0.05
    assert max(shares([20] * ROWS, [0] * ROWS)) < 0.05


def test_a_lone_agent_has_nobody_to_be_held_against() -> None:
    found = shares([10, 0, 0, 0, 0], [0, 0, 0, 0, 0])
    assert 0.7 < found[0] < 1


def test_one_kind_that_all_fail_does_not_hide_another_that_one_fails() -> None:
    blame = Blame()
    shares([20] * ROWS, [0] * ROWS, KIND, blame)
    found = shares([20, 0, 0, 0, 0], [0, 20, 20, 20, 20], OTHER, blame)
    assert found[0] > 0.3
    assert max(found[1:]) < 0.05
    blame.forget_row(0)
    assert blame.shares(ROWS)[0] == 0
    blame.forget_kind(KIND)
    blame.forget_kind(OTHER)
    assert (blame.shares(ROWS) == 0).all()


def test_failures_fade_with_what_goes_well() -> None:
    blame = Blame()
    assert shares([200, 0, 0, 0, 0], [0, 0, 0, 0, 0], blame=blame)[0] > 0.9
    for before in range(2_000):
        blame.completed(KIND, 0, min(before, 256))
    blame.renew(KIND, np.array([256.0, 0, 0, 0, 0]))
    assert blame.shares(1)[0] < 0.01


tries = st.lists(st.integers(0, 300), min_size=ROWS, max_size=ROWS)


@given(tries, tries)
def test_shares_are_shares(failed: list[int], completed: list[int]) -> None:
    blame = Blame()
    blame.fit(ROWS)
    blame.remember(KIND, np.arange(ROWS), np.array(completed, np.float64), np.array(failed, np.float64))
    blame.renew(KIND, np.array(completed, np.float64))
    found = blame.shares(ROWS)
    assert ((found >= 0) & (found < 1)).all()
    assert all(share <= lost / (lost + 3) for share, lost in zip(found, failed, strict=True))
