"""The size of the log, kept in runs, against a plain list (A2: the log is bounded in bytes too)."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from coordinator.consensus.sizes import RUN_BYTES, SizeRuns

LARGEST = 400_000


@given(st.integers(0, 1 << 30))
def test_the_size_is_right_to_within_a_run(seed: int) -> None:
    chance = random.Random(seed)
    runs, log, first = SizeRuns(), [], 1
    slack = 0
    """What was cut off within a run."""
    for _ in range(60):
        what = chance.random()
        if what < 0.7:
            for _ in range(chance.randint(1, 8)):
                log.append(chance.randint(0, LARGEST))
                runs.extend(first + len(log) - 1, log[-1])
        elif what < 0.85 and log:
            kept = chance.randint(0, len(log))
            slack += min(sum(log[kept:]), RUN_BYTES + LARGEST)
            del log[kept:]
            runs.truncate_from(first + kept)
        elif log:
            dropped = chance.randint(1, len(log))
            runs.compact_to(first + dropped - 1)
            del log[:dropped]
            first += dropped
        assert sum(log) <= runs.total <= sum(log) + slack + RUN_BYTES + LARGEST
        if not log:
            continue
        limit = chance.randint(0, 3_000_000)
        index = runs.index_before(limit)
        assert index < first + len(log)
        assert sum(log[max(0, index - first + 1) :]) <= limit


def test_few_bytes_are_all_kept() -> None:
    runs = SizeRuns()
    for index in range(1, 100):
        runs.extend(index, 10)
    assert runs.total == 990
    assert runs.index_before(990) == 0
    assert runs.index_before(989) == 99
