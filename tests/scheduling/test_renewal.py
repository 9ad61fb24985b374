"""When what ends teach is taken in (E2): at once where it may matter now, a moment later where brief tasks of
a known kind end, as many do."""

from __future__ import annotations

import pytest

from coordinator.core.kinds import Kind
from coordinator.scheduling.learning.estimates import PATIENCE_S, Estimates
from tests.scheduling.test_estimates import ANY, KIND, table, teach


def test_what_brief_tasks_of_a_known_kind_teach_waits_a_moment() -> None:
    """Each renewal makes all prices anew, and where such tasks end, many do."""
    learner = Estimates(table(a=1.0))
    teach(learner, [0.01])
    learner.renew_in_time(5.0)
    at = learner.version
    teach(learner, [0.02] * 3)
    learner.renew_in_time(5.0)
    learner.renew_in_time(5.0 + 0.95 * PATIENCE_S)
    assert learner.version == at
    before = learner.work_s(KIND, 2)
    learner.renew_in_time(5.0 + 1.05 * PATIENCE_S)
    assert learner.version == at + 1
    assert learner.work_s(KIND, 2) > before
    teach(learner, [0.02])
    learner.renew_in_time(4.0)
    assert learner.version == at + 2, "a clock that goes back puts nothing off"


@pytest.mark.parametrize("seconds", [0.2, 60.0])
def test_what_others_teach_does_not(seconds: float) -> None:
    learner = Estimates(table(a=1.0))
    teach(learner, [0.01])
    learner.renew_in_time(5.0)
    at = learner.version
    teach(learner, [seconds])
    learner.renew_in_time(5.0)
    assert learner.version == at + 1
    teach(learner, [0.01], kind=Kind("unknown", "", ANY, False))
    learner.renew_in_time(5.0)
    assert learner.version == at + 2
    learner.failed(KIND, "a")
    learner.renew_in_time(5.0)
    assert learner.version == at + 3
