"""How much each workload does."""

from __future__ import annotations

from typing import Final, NamedTuple

from bench import failover
from bench.workloads import CHAIN, LAYERS, SINGLES, TASKS, WARM_UP

_LEAST: Final = 10
"""Fewer of anything would be nothing."""


class Sizes(NamedTuple):
    """W1 to W5 do `tasks` (W1u `single_calls` of them) but for W2, which has `layers`, W3, a `chain`, and
    W4, `singles`, one after the other; W7 does `writes`. In W8 `backlog` tasks wait; how fast a cluster
    works is measured over `drained` of them, and compared with one where `few` wait. `warm_up` comes before
    all that is measured."""

    tasks: int = TASKS
    single_calls: int = 5_000
    layers: int = LAYERS
    chain: int = CHAIN
    singles: int = SINGLES
    failover_tasks: int = failover.TASKS
    writes: int = 2_000
    writes_of_many: int = 5_000
    writes_on_a_stream: int = 20_000
    backlog: int = 1_000_000
    drained: int = 20_000
    few: int = 10_000
    warm_up: int = WARM_UP

    def scaled(self, scale: float) -> Sizes:
        """So large a part of everything, to try the suite with: what comes of it is no measurement."""
        return Sizes(*(max(_LEAST, round(size * scale)) for size in self))
