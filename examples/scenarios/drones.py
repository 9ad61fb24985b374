"""50 drones: what a battery has left is a skill that falls with every mission, and a storm makes missions
longer, and some of them fail."""

from __future__ import annotations

from typing import Final

import numpy as np
from msgspec.structs import replace

from bench.placement.fleet import Fate, Fleet, Ran
from bench.placement.studies.streams import task
from coordinator.core.model import (
    AgentSpec,
    AttemptOutcome,
    Backoff,
    DagHeader,
    Requirements,
    RetryPolicy,
    Task,
)
from coordinator.dag.draft import DagDraft
from coordinator.scheduling.costs.weights import BALANCED
from examples.scenarios.findings import Finding, Scenario

DRONES: Final = 50
MISSIONS: Final = 400

_SEED: Final = 1
_BATTERY_S: Final = 1_500
"""In seconds of flight without wind."""
_CHARGE_S: Final = 600.0
_HOME_S: Final = 120
"""A drone with less left goes home: it is what the shortest mission takes, with its reserve."""
_SHORTEST_S: Final = 60.0
_LONGEST_S: Final = 240.0
_RESERVE: Final = 1.3
"""A mission is given to drones that could fly so many times as long."""
_COMES_FOR_S: Final = 1_800.0
_STORM_S: Final = (600.0, 1_200.0)
_WIND: Final = 1.25
"""Missions take so many times as long in the storm, and so much more of the battery."""
_GUSTS: Final = 0.1
"""Share of missions that fail in the storm half-way, and are tried again."""
_RETRY: Final = RetryPolicy(max_attempts=3, backoff=Backoff.FIXED, delay_ms=2_000)


def run(drones: int = DRONES, missions: int = MISSIONS) -> Scenario:
    """One day."""
    flown = _Flights(drones).run(missions)
    return Scenario(
        "drones",
        f"{drones} drones, {missions} missions, a storm of {(_STORM_S[1] - _STORM_S[0]) / 60:.0f} minutes",
        [
            Finding("success", flown["success"], "%", "missions that were flown to their end", at_least=98.5),
            Finding("battery use", flown["used"], "%", "of a charge, when a drone goes home", at_least=90),
            Finding("failed flights", flown["failed"], "", "tried again by another drone, or the same later"),
            Finding("mean delay", flown["took_s"], "s", "from asking for a mission to its end"),
        ],
    )


class _Flights:
    def __init__(self, drones: int) -> None:
        specs = [self._spec(at, _BATTERY_S) for at in range(drones)]
        self._left = {spec.agent_id: float(_BATTERY_S) for spec in specs}
        self._specs = {spec.agent_id: spec for spec in specs}
        self._chance = np.random.default_rng(_SEED)
        self._used: list[float] = []
        once = replace(BALANCED, rivals=1)
        self._fleet = Fleet(specs, once, fates=self._fate, ended=self._landed, round_s=0.1)

    def run(self, missions: int) -> dict[str, float]:
        fleet, chance = self._fleet, self._chance
        for at, when_s in enumerate(np.sort(chance.uniform(0, _COMES_FOR_S, missions)).tolist()):
            seconds = float(chance.uniform(_SHORTEST_S, _LONGEST_S))
            needs = Requirements(capabilities=(("battery", round(_RESERVE * seconds)),))
            mission = task("fly", seconds, type="fly", requirements=needs, retry=_RETRY)
            fleet.submit(DagDraft(DagHeader(f"mission-{at:04}"), [mission]), when_s)
        fleet.run()
        flown = [one for one in fleet.ran if one.outcome is AttemptOutcome.COMPLETED]
        took = [fleet.finished_s[one] - came_s for one, came_s in fleet.submitted_s.items()]
        return {
            "success": 100 * len(flown) / missions,
            "used": 100 * float(np.mean(self._used)),
            "failed": float(len(fleet.ran) - len(flown)),
            "took_s": float(np.mean(took)),
        }

    @staticmethod
    def _spec(at: int, battery_s: int) -> AgentSpec:
        return AgentSpec(f"drone-{at:02}", "virtual", 1, 1, capabilities=(("battery", battery_s),))

    def _fate(self, mission: Task, spec: AgentSpec, now_s: float) -> Fate:
        storm = _STORM_S[0] <= now_s < _STORM_S[1]
        seconds = float(mission.payload) * (_WIND if storm else 1.0)
        if storm and self._chance.random() < _GUSTS:
            return Fate(seconds / 2, AttemptOutcome.FAILED)
        return Fate(seconds)

    def _landed(self, flight: Ran) -> None:
        """The drone says what its battery has left, or goes home if that is little."""
        drone = flight.agent
        self._left[drone] -= flight.ended_s - flight.began_s
        if self._left[drone] >= _HOME_S:
            self._say(drone)
            return
        self._used.append(1 - max(self._left[drone], 0.0) / _BATTERY_S)
        self._fleet.drain(drone)
        self._fleet.at(self._fleet.now_s + _CHARGE_S, lambda: self._charged(drone))

    def _charged(self, drone: str) -> None:
        self._left[drone] = float(_BATTERY_S)
        self._say(drone)
        self._fleet.drain(drone, undo=True)

    def _say(self, drone: str) -> None:
        left = int(self._left[drone])
        self._specs[drone] = replace(self._specs[drone], capabilities=(("battery", left),))
        self._fleet.change(self._specs[drone])
