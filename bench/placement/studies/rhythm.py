"""Machines that others use too, in a rhythm: what is gained by placing tasks by what load will be (D6)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from bench.placement.fleet import Fate, Fleet
from bench.placement.studies.streams import task
from bench.placement.study import BASELINE, Axis, Figures, Point, Study, baseline, mean_point
from coordinator.core.model import AgentLoad, AgentSpec, DagHeader, Task
from coordinator.dag.draft import DagDraft
from coordinator.forecast.bank import Bank
from coordinator.forecast.horizons import horizons
from coordinator.replica.foresight import Foresight
from coordinator.scheduling.costs.policies import Simple
from coordinator.scheduling.costs.weights import BALANCED, Policy

STUDY: Final = Study(
    "rhythm",
    "Where others use the machines in a rhythm, what do forecasts of load gain?",
    "placed by, and the period",
    Axis("response_s", "mean time from submitting a task to its end", "s"),
    Axis("slowest_s", "mean time from submitting to the end of the slowest tenth", "s"),
    (Axis("foreseen", "agents with a forecast that has proved better", "%"),),
)

PERIODS_S: Final = (600.0, 1_200.0, 1_800.0)
COMES_FOR_S: Final = 3.5 * 3_600.0
SETTLED_S: Final = 1.5 * 3_600.0
"""What comes before is not counted: a forecast has to prove itself first."""

_ONCE: Final = msgspec.structs.replace(BALANCED, rivals=1)
_AGENTS: Final = 12
_SLOTS: Final = 4
_UTILISATION: Final = 0.35
"""Of what others leave."""

_MEAN_WORK_S: Final = 180.0
_WORK_SIGMA: Final = 0.4
_QUIET: Final = 0.1
_BUSY: Final = 0.8
"""What others use of a CPU, and while they are busy."""

_BUSY_PART: Final = 0.4
"""Of a period."""

_REPORTS_EVERY_S: Final = 10.0
_ROUND_S: Final = 1.0
_SLICE_S: Final = 5.0
"""What others use is taken to be the same for so long."""


class Rhythm:
    """What others use: they come and go on each agent, at a moment of its own."""

    def __init__(self, period_s: float, seed: int) -> None:
        self._period_s = period_s
        phases = np.random.default_rng((seed, 1)).random(_AGENTS)
        self._phases = {_name(at): float(phase) for at, phase in enumerate(phases)}

    def __call__(self, spec: AgentSpec, now_s: float) -> float:
        """Of the agent's CPU, then."""
        turn = now_s / self._period_s + self._phases[spec.agent_id]
        return _BUSY if turn % 1.0 < _BUSY_PART else _QUIET

    def fate(self, one: Task, spec: AgentSpec, began_s: float) -> Fate:
        """A task gets what they leave."""
        left_s, now_s = float(one.payload), began_s
        while True:
            done_s = _SLICE_S * (1 - self(spec, now_s))
            if done_s >= left_s:
                return Fate(now_s + _SLICE_S * left_s / done_s - began_s)
            left_s -= done_s
            now_s += _SLICE_S


class Forecasts:
    """The leader's short ones, fed with what agents report."""

    def __init__(self) -> None:
        self._bank = Bank(horizons()[:1], max_series=2 * _AGENTS)
        self._foresight = Foresight(self._bank)
        self.proved: list[float] = []
        """Of all agents, the share of which anything was expected, by step."""

    def look(self, fleet: Fleet, loads: Mapping[str, AgentLoad], now_s: float) -> None:
        """As a leader does once per interval."""
        self._bank.observe(((agent, "cpu"), load.cpu) for agent, load in loads.items())
        if self._bank.advance(round(1_000 * now_s)) is not None:
            expected = self._foresight.renew_all()
            fleet.leader.snapshot.measured.expect(expected)
            self.proved.append(len(expected.agents) / _AGENTS)


def points(seeds: Sequence[int]) -> Iterator[Point]:
    """By the last measurement, by forecasts, and by the least loaded, for each period."""
    ways = (("last value", _ONCE, False), ("forecast", _ONCE, True), (BASELINE, baseline(), False))
    for series, policy, foresees in ways:
        for period_s in PERIODS_S:
            runs = (run(policy, seed, period_s, foresees=foresees) for seed in seeds)
            yield mean_point(series, f"{period_s / 60:.0f} min", runs)


def run(
    policy: Policy | Simple,
    seed: int,
    period_s: float,
    *,
    foresees: bool,
    comes_for_s: float = COMES_FOR_S,
    settled_s: float = SETTLED_S,
) -> Figures:
    """One run."""
    agents = [AgentSpec(_name(at), "virtual", _SLOTS, 2 * _SLOTS) for at in range(_AGENTS)]
    rhythm, forecasts = Rhythm(period_s, seed), Forecasts()

    def reported(loads: Mapping[str, AgentLoad], now_s: float) -> None:
        if foresees:
            forecasts.look(fleet, loads, now_s)

    fleet = Fleet(
        agents,
        policy,
        fates=rhythm.fate,
        round_s=_ROUND_S,
        load_every_s=_REPORTS_EVERY_S,
        others=rhythm,
        reported=reported,
    )
    for draft, when_s in _stream(comes_for_s, seed):
        fleet.submit(draft, when_s)
    fleet.run()
    came = {dag_id: came_s for dag_id, came_s in fleet.submitted_s.items() if came_s > settled_s}
    took = sorted(fleet.finished_s[dag_id] - came_s for dag_id, came_s in came.items())
    return {
        "response_s": float(np.mean(took)),
        "slowest_s": float(np.mean(took[-max(1, len(took) // 10) :])),
        "foreseen": 100 * forecasts.proved[-1] if forecasts.proved else 0.0,
    }


def _stream(comes_for_s: float, seed: int) -> Iterator[tuple[DagDraft, float]]:
    """Single tasks of minutes, whose clients say how much work they are."""
    chance, now_s = np.random.default_rng(seed), 0.0
    work_per_s = _UTILISATION * _AGENTS * _SLOTS * (1 - _BUSY_PART * _BUSY - (1 - _BUSY_PART) * _QUIET)
    for at in itertools.count():
        now_s += float(chance.exponential(_MEAN_WORK_S / work_per_s))
        if now_s >= comes_for_s:
            return
        seconds = _MEAN_WORK_S * float(chance.lognormal(-(_WORK_SIGMA**2) / 2, _WORK_SIGMA))
        yield DagDraft(DagHeader(f"job-{at:05}"), [task("only", seconds)]), now_s


def _name(at: int) -> str:
    return f"agent-{at:02}"
