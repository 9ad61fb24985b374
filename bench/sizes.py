"""How much each workload does."""

from __future__ import annotations

from typing import Final, NamedTuple

from bench import failover
from bench.workloads import CHAIN, LAYERS, SINGLES, TASKS, WARM_UP

TURNS: Final = 3
"""In W8, of the two clusters that are compared: the machine is not the same from one minute to the next."""

_DRAINED: Final = 20_000
_FEW: Final = 10_000
LEAST_BACKLOG: Final = TURNS * (_DRAINED + _FEW)
"""Agents end more in a turn than is measured, as they come before it begins and go after it has ended."""

_LEAST: Final = 10
"""Fewer of anything would be nothing."""
_LEAST_OF: Final = {"failover_tasks": 100, "drained": 2_000, "few": _FEW, "backlog": TURNS * (2_000 + _FEW)}
"""Of these there would be nothing left to be measured."""


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
    drained: int = _DRAINED
    few: int = _FEW
    warm_up: int = WARM_UP

    def scaled(self, scale: float) -> Sizes:
        """So large a part of everything, to try the suite with: what comes of it is no measurement."""
        return Sizes(
            **{
                name: max(_LEAST_OF.get(name, _LEAST), round(size * scale))
                for name, size in self._asdict().items()
            }
        )
