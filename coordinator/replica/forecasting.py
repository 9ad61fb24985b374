"""The leader's forecasts of load: it feeds the bank with what agents report and what the cluster does, keeps
the past in the replicated state for its successor, and lets models that are slow run elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final

import structlog

from coordinator.core.commands import Command, KeepLoads
from coordinator.core.limits import LOAD_GRIDS, LOAD_STEP_BYTES, LOAD_STEPS
from coordinator.core.model import AgentLoad, AgentState
from coordinator.core.state import State
from coordinator.defects import Defects
from coordinator.errors import ModelFailed, Unavailable, WrongState
from coordinator.forecast.bank import Bank, Forecast, Key
from coordinator.forecast.grid import Grid
from coordinator.forecast.horizons import SLOW_MODELS, horizons
from coordinator.forecast.settings import ForecastSettings
from coordinator.replica.clock import Clock
from coordinator.replica.foresight import CPU, MEMORY, Foresight
from coordinator.replica.load_steps import Packer, place_of, unpack
from coordinator.replica.slow_models import ModelCall, SlowModels
from coordinator.scheduling.agents.table import load_score
from coordinator.scheduling.load.measured import NOTHING_EXPECTED, ExpectedLoads

LOAD: Final = "load"
"""The higher of the two (`scheduling.agents.load_score`)."""

_AGENT_SERIES: Final[Mapping[str, Callable[[AgentLoad], float]]] = {
    CPU: lambda load: load.cpu,
    MEMORY: lambda load: load.memory,
    LOAD: load_score,
}
_CLUSTER_SERIES: Final = ("waiting", "busy")

SERIES: Final = (*_AGENT_SERIES, *_CLUSTER_SERIES)
"""What is forecast, of agents and of the cluster."""

_RESTORE_PAUSE_S: Final = 0.002
"""Between two steps of the past that a new leader takes up; at least twice as long as the step took."""

_LOOKED_AT: Final = 32
"""Places of the past that are looked at in one turn of the event loop."""

_RETRY_MS: Final = 200
_LEAST_PAST: Final = 32
"""Steps of a series before a slow model is asked about it."""

_log = structlog.get_logger(__name__)


class Forecasting:
    """One term's worth of it. `kept` reads what was kept of the past, as it was packed; `waiting` counts the
    tasks that wait for an agent; `slow` runs the models that `settings.extras` names."""

    def __init__(
        self,
        state: Callable[[], State],
        kept: Callable[[int], bytes | None],
        waiting: Callable[[], int],
        propose: Callable[[Command], None],
        clock: Clock,
        slow: SlowModels | None,
        settings: ForecastSettings,
        defects: Defects | None = None,
    ) -> None:
        self._state = state
        self._kept = kept
        self._waiting = waiting
        self._propose = propose
        self._clock = clock
        self._slow = slow
        self._settings = settings
        self._defects = defects or Defects()
        self._horizons = horizons(settings.short_step_s, settings.medium_step_s, settings.long_step_s)
        self.bank = Bank(
            self._horizons,
            max_series=settings.max_series,
            tops=dict.fromkeys(_AGENT_SERIES, 1.0),
            outside={name: SLOW_MODELS[name] for name in settings.models},
        )
        self._foresight = Foresight(self.bank)
        self._packer = Packer()
        self._turns: dict[str, int] = {}
        self.restored = False
        """Whether the past has been taken up; until then nothing is forecast."""
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Take up the past, then go on by itself."""
        if self._settings.enabled:
            self._tasks = [self._defects.begin("forecasting", self._restore())]

    def stop(self) -> None:
        """The term is over."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        if self._slow is not None:
            self._slow.stop()

    def observe(self, loads: Mapping[str, AgentLoad]) -> None:
        """What agents have reported since the last call, which is to come once in each load interval: an
        agent that reports nothing is as it was."""
        if not self._settings.enabled:
            return
        self.bank.observe(self._samples(loads))
        if self.restored:
            self._advance()

    def _advance(self) -> None:
        """Close one step; commits go on before the next."""
        agents = self._state().agents
        absent = [name for name, agent in agents.items() if agent.record.state is not AgentState.CONNECTED]
        closed = self.bank.advance(self._clock.now_ms(), absent)
        if closed is None or self._stopped:
            return
        packed = self._packer.pack(closed, self._horizons[closed.grid].step_s)
        if len(packed) <= LOAD_STEP_BYTES:
            self._propose(KeepLoads(closed.grid, closed.number, packed))
        self.bank.drop([key for key in self.bank.rows if key[0] and key[0] not in agents])
        asyncio.get_running_loop().call_soon(self._advance_again)

    def _advance_again(self) -> None:
        with self._defects.turn("forecasts"):
            self._advance()

    def expected(self) -> ExpectedLoads:
        """What placement is to expect of agents, of which each call renews a part; nothing where that is
        switched off, or the past has not been taken up."""
        if not (self.restored and self._settings.placement):
            return NOTHING_EXPECTED
        return self._foresight.renew()

    def known(self, agent: str | None, series: str) -> list[Key]:
        """The series of an agent ("": the cluster), or with this name, in order; None and "" stand for all.

        Raises:
            WrongState: forecasts are switched off.
            Unavailable: the past has not been taken up yet.
        """
        if not self._settings.enabled:
            raise WrongState("forecast.enabled is false on this node", setting="forecast.enabled")
        if not self.restored:
            raise Unavailable("this leader is new, and still takes up the past", retry_after_ms=_RETRY_MS)
        return sorted(key for key in self.bank.rows if agent in (None, key[0]) and series in ("", key[1]))

    def forecasts(self, key: Key, horizon: str = "") -> list[Forecast]:
        """All forecasts of a series, or those of one horizon, by distance; none before its first step."""
        return list(self.bank.forecasts(key, horizon))

    # --- inside ---------------------------------------------------------------------------------------------

    def _samples(self, loads: Mapping[str, AgentLoad]) -> Iterator[tuple[Key, float]]:
        state = self._state()
        busy = sum(len(agent.held) for agent in state.agents.values())
        for name, value in zip(_CLUSTER_SERIES, (self._waiting(), busy), strict=True):
            yield ("", name), value
        for agent_id, load in loads.items():
            for name, of in _AGENT_SERIES.items():
                yield (agent_id, name), of(load)

    async def _restore(self) -> None:
        """Let the bank go through what is kept of the past, in pieces: commits go on meanwhile."""
        loop = asyncio.get_running_loop()
        places: list[int] = []
        with self._defects.turn("past_load"):
            places = await self._kept_places()
        for place in places:
            began = loop.time()
            with self._defects.turn("past_load"):
                packed = self._kept(place)
                if packed is not None and (closed := unpack(packed)) is not None:
                    self.bank.restore(closed)
            await asyncio.sleep(max(_RESTORE_PAUSE_S, 2 * (loop.time() - began)))
        with self._defects.turn("past_load"):
            known = {*self._state().agents, ""}
            self.bank.drop([key for key in self.bank.rows if key[0] not in known])
        self.restored = True
        _log.info("forecasting", steps=len(places), series=len(self.bank.rows))
        if self._slow is not None:
            self._tasks += [
                self._defects.begin("slow_models", self._keep_asking(name)) for name in self._settings.models
            ]

    async def _kept_places(self) -> list[int]:
        """Where the steps of the past are, in the order of their grids and times: those of the lengths that
        this leader goes by, and not of the future."""
        now_ms, found = self._clock.now_ms(), []
        for at in range(LOAD_GRIDS * LOAD_STEPS):
            packed = self._kept(at)
            place = None if packed is None else place_of(packed)
            if place is not None and place.grid < len(self._horizons):
                horizon = self._horizons[place.grid]
                if place.step_s == horizon.step_s and place.number < horizon.number(now_ms):
                    found.append((place, at))
            if at % _LOOKED_AT == 0:
                await asyncio.sleep(0)
        return [at for _, at in sorted(found)]

    async def _keep_asking(self, name: str) -> None:
        """Ask a slow model about some series at a time, in turn."""
        at = next(at for at, one in enumerate(self._horizons) if one.name == SLOW_MODELS[name])
        while True:
            await asyncio.sleep(self._settings.extra_interval_s)
            with self._defects.turn("slow_models"):
                await self._ask(name, at)

    async def _ask(self, name: str, at: int) -> None:
        grid = self.bank.grids[at]
        keys = self._next_keys(name, grid)
        if not keys:
            return
        made, rows = grid.number, [self.bank.rows[key] for key in keys]
        call = ModelCall(name, grid.horizon.seasons[0], grid.outside[name].reach, self.bank.past(at, keys))
        assert self._slow is not None
        try:
            paths = await self._slow.ask(call, self._settings.extra_timeout_s)
        except ModelFailed as error:
            _log.warning("no forecast", model=name, why=error.reason, error=error.message)
            return
        for key, row, path in zip(keys, rows, paths.T, strict=True):
            if self.bank.rows.get(key) == row:
                grid.outside[name].take(row, made, path)

    def _next_keys(self, name: str, grid: Grid) -> list[Key]:
        old_enough = [key for key, row in self.bank.rows.items() if grid.age(row) >= _LEAST_PAST]
        begin = self._turns.get(name, 0) if self._turns.get(name, 0) < len(old_enough) else 0
        keys = list(islice(old_enough, begin, begin + self._settings.extra_series))
        self._turns[name] = begin + len(keys)
        return keys
