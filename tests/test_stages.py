"""Where a node's time goes, stage by stage (docs/benchmarks.md)."""

from __future__ import annotations

import pytest

from bench.stages import stage_times, table
from coordinator.stages import STAGES, Stages


def test_each_stage_counts_its_times_and_its_time() -> None:
    clock = iter([1.0, 1.5, 2.0, 2.25])
    stages = Stages(lambda: next(clock))
    with stages["apply"]:
        pass
    with pytest.raises(ValueError, match="what it was at"), stages["apply"]:
        raise ValueError("what it was at")
    stages["sync"].took(0.001)
    counters = stages.counters()
    assert (counters["stage_apply_times"], counters["stage_apply_us"]) == (2.0, 750_000.0)
    assert (counters["stage_sync_times"], counters["stage_sync_us"]) == (1.0, 1_000.0)
    assert len(counters) == 2 * len(STAGES)


def test_what_stages_took_between_two_readings_is_told_in_parts_of_the_time() -> None:
    stages = Stages()
    stages["place"].took(5.0)
    before = stages.counters()
    for _ in range(4):
        stages["place"].took(0.25)
    spent = stage_times(before, stages.counters())
    assert [(one.name, one.times, one.seconds) for one in spent if one.times] == [("place", 4, 1.0)]
    lines = table(spent, lasted_s=10.0).splitlines()
    assert [line.split() for line in lines if line.startswith(("place", "push"))] == [
        ["place", "4", "250,000", "10.0"],
        ["push", "0", "-", "0.0"],
    ]
