"""The leader's forecasts: what it feeds them with, what it keeps for its successor, what the scheduler and
operators read, and slow models beside it (D5, D6)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from coordinator.core.commands import CloseSession, Command, ForgetAgents, KeepLoads
from coordinator.core.limits import LOAD_GRIDS, LOAD_STEPS
from coordinator.core.model import AgentLoad
from coordinator.errors import ModelFailed, Unavailable, WrongState
from coordinator.forecast.horizons import HISTORY_STEPS, horizons
from coordinator.forecast.settings import ForecastSettings
from coordinator.replica.forecasting import Forecasting
from coordinator.replica.slow_models import ModelCall
from coordinator.scheduling.load.measured import NOTHING_EXPECTED, ExpectedLoads

if TYPE_CHECKING:
    from coordinator.forecast.history import FloatRow
    from tests.replica.conftest import Log, MakeApplier

PATIENCE_S = 20.0
BEGIN_MS = 1_700_000_000_000
QUICK = ForecastSettings(short_step_s=1, medium_step_s=1, long_step_s=1)


class Leader:
    """What a leader gives its forecasts, on a clock that a test moves."""

    def __init__(self, log: Log, make_applier: MakeApplier) -> None:
        self.log = log
        self.applier = make_applier("a")
        self.now = BEGIN_MS
        self.waiting = 0
        self.proposed: list[Command] = []
        self.made: list[Forecasting] = []

    def now_ms(self) -> int:
        """As `Clock.now_ms`."""
        return self.now

    def propose(self, command: Command) -> None:
        """It is committed at once."""
        self.proposed.append(command)
        self.applier.apply([self.log.add(command, at_ms=self.now)])

    async def forecasting(self, settings: ForecastSettings = QUICK, slow: Slow | None = None) -> Forecasting:
        """The forecasts of a new term, once they have taken up the past."""
        made = self.make(settings, slow)
        await until(lambda: made.restored or not settings.enabled)
        return made

    def make(self, settings: ForecastSettings = QUICK, slow: Slow | None = None) -> Forecasting:
        """The forecasts of a new term."""
        made = Forecasting(
            lambda: self.applier.newest,
            self.applier.load_step,
            lambda: self.waiting,
            self.propose,
            self,
            slow,
            settings,
        )
        self.made.append(made)
        made.start()
        return made

    async def run(self, forecasting: Forecasting, cpus: list[float], agent: str = "r1") -> None:
        """A load report a second."""
        for cpu in cpus:
            forecasting.observe({agent: AgentLoad(cpu=cpu, memory=0.1)})
            await settle()
            self.now += 1_000
        forecasting.observe({})
        await settle()


class Slow:
    """A slow model that says what a test tells it to."""

    def __init__(self, answer: float | None) -> None:
        self.asked: list[ModelCall] = []
        self._answer = answer
        self.stopped = False

    async def ask(self, call: ModelCall, timeout_s: float) -> FloatRow:
        """As `SlowModels.ask`."""
        del timeout_s
        self.asked.append(call)
        if self._answer is None:
            raise ModelFailed("it does not know")
        return np.full((call.ahead, call.past.shape[1]), self._answer)

    def stop(self) -> None:
        """As `SlowModels.stop`."""
        self.stopped = True


async def settle() -> None:
    """Let the steps of all grids be closed."""
    for _ in range(LOAD_GRIDS + 1):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that other tasks do."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"waited {PATIENCE_S} s in vain"
        await asyncio.sleep(0.001)


@pytest.fixture
async def leader(log: Log, make_applier: MakeApplier) -> AsyncIterator[Leader]:
    """Of a cluster with the agents r1 and r2."""
    made = Leader(log, make_applier)
    made.applier.apply([log.agent("r1"), log.agent("r2")])
    yield made
    for forecasting in made.made:
        forecasting.stop()


def rhythm(steps: int, begin: int = 0) -> list[float]:
    """Load that comes and goes in 24 s."""
    return (0.5 + 0.3 * np.sin(2 * np.pi * (begin + np.arange(steps)) / 24)).tolist()


def looked_at(forecasting: Forecasting) -> ExpectedLoads:
    """What is expected once every distance has had its turn, one in each load interval."""
    for _ in forecasting.bank.grids[0].horizon.leads:
        forecasting.expected()
    return forecasting.expected()


async def test_the_scheduler_reads_what_agents_will_bear(leader: Leader) -> None:
    """D6: the CPU that has a rhythm, once that has been foreseen better than by the last value, and not the
    memory, which does not change; made once a step."""
    forecasting = await leader.forecasting()
    assert forecasting.expected() is NOTHING_EXPECTED
    await leader.run(forecasting, [0.5] * 30)
    assert forecasting.expected() is NOTHING_EXPECTED, "nothing is better than the last value"
    await leader.run(forecasting, rhythm(150))
    expected = looked_at(forecasting)
    assert expected.leads_s == (6, 12, 30, 60)
    assert expected.agents == ("r1",)
    assert forecasting.expected() is expected
    said = {one.lead_s: one for one in forecasting.forecasts(("r1", "cpu"), "short")}
    for at, lead_s in enumerate(expected.leads_s):
        proved = said[round(lead_s)].model != "naive"
        assert expected.cpu[at, 0] == said[round(lead_s)].value if proved else np.isnan(expected.cpu[at, 0])
    assert expected.cpu[0, 0] == pytest.approx(rhythm(1, begin=149 + 6)[0], abs=0.1)
    assert np.isnan(expected.memory).all()
    await leader.run(forecasting, [0.5])
    assert forecasting.expected() is not expected
    forecasting.observe({"r2": AgentLoad(cpu=0.5)})
    assert looked_at(forecasting).agents == ("r1",)


async def test_what_is_expected_is_renewed_one_distance_at_a_time(leader: Leader) -> None:
    """D6: each in its turn, so that commits go on in between; a new agent begins without a past."""
    forecasting = await leader.forecasting()
    await leader.run(forecasting, rhythm(150))
    told = [np.isnan(forecasting.expected().cpu[:, 0]).tolist() for _ in range(3)]
    assert told == [[False, True, True, True], [False, False, True, True], [False, False, False, True]]
    forecasting.observe({"r2": AgentLoad(cpu=0.5)})
    assert forecasting.expected().agents == ("r1",)
    assert np.isnan(forecasting.expected().cpu[2:, 0]).all()


async def test_placement_may_leave_forecasts_alone(leader: Leader) -> None:
    """D6: they are made all the same."""
    forecasting = await leader.forecasting(msgspec.structs.replace(QUICK, placement=False))
    await leader.run(forecasting, rhythm(100))
    assert {one.model for one in forecasting.forecasts(("r1", "cpu"), "short")} != {"naive"}
    assert forecasting.expected() is NOTHING_EXPECTED


async def test_the_cluster_is_forecast_too(leader: Leader) -> None:
    """D6: tasks that wait, and attempts that agents hold."""
    forecasting = await leader.forecasting()
    leader.waiting = 1_000_000
    await leader.run(forecasting, [0.5] * 3)
    assert forecasting.known("", "") == [("", "busy"), ("", "waiting")]
    assert {one.value for one in forecasting.forecasts(("", "waiting"))} == {1_000_000.0}
    assert {one.value for one in forecasting.forecasts(("", "busy"))} == {0.0}


async def test_a_new_leader_goes_on_from_the_past(leader: Leader) -> None:
    """D6, A5: with what was forecast, the outcomes and the errors, to the precision in which they are
    kept."""
    chance = np.random.default_rng(1)
    former = await leader.forecasting()
    await leader.run(former, (0.5 + 0.1 * chance.standard_normal(50)).tolist())
    later = await leader.forecasting()
    before, after = former.forecasts(("r1", "cpu")), later.forecasts(("r1", "cpu"))
    assert [one.scored for one in after] == [one.scored for one in before] != [0] * len(before)
    for name in ("value", "low", "high", "error", "naive_error"):
        assert [getattr(one, name) for one in after] == pytest.approx(
            [getattr(one, name) for one in before], abs=2e-3, nan_ok=True
        )


async def test_a_new_leader_says_nothing_before_it_has_taken_up_the_past(leader: Leader) -> None:
    """D6: what it would say is old."""
    former = await leader.forecasting()
    await leader.run(former, rhythm(100))
    later = leader.make()
    for _ in range(20):
        await asyncio.sleep(0)
    assert later.expected() is NOTHING_EXPECTED
    with pytest.raises(Unavailable):
        later.known(None, "")
    await until(lambda: later.restored)
    assert looked_at(later).agents == looked_at(former).agents == ("r1",)
    assert looked_at(later).cpu == pytest.approx(looked_at(former).cpu, abs=2e-3, nan_ok=True)


async def test_what_is_kept_is_bounded(leader: Leader) -> None:
    """D6: a ring for each grid, as long as what is looked at."""
    assert HISTORY_STEPS == LOAD_STEPS
    assert len(horizons()) == LOAD_GRIDS
    forecasting = await leader.forecasting()
    await leader.run(forecasting, [0.5] * (LOAD_STEPS + 20))
    assert all(leader.applier.load_step(place) for place in range(LOAD_GRIDS * LOAD_STEPS))
    assert leader.applier.load_step(LOAD_GRIDS * LOAD_STEPS) is None
    assert len(leader.proposed) > LOAD_GRIDS * LOAD_STEPS


async def test_an_agent_that_is_away_is_not_scored_and_one_that_is_forgotten_is_dropped(
    leader: Leader,
) -> None:
    """D6, D7: what it was is not what it is."""
    forecasting = await leader.forecasting()
    await leader.run(forecasting, [0.5] * 20)
    scored = forecasting.forecasts(("r1", "cpu"))[0].scored
    epoch = leader.applier.newest.agents["r1"].record.epoch
    leader.propose(CloseSession("r1", epoch, True))
    await leader.run(forecasting, [0.3] * 5, agent="r2")
    assert forecasting.forecasts(("r1", "cpu"))[0].scored == scored
    leader.propose(ForgetAgents([("r1", epoch)]))
    await leader.run(forecasting, [0.3], agent="r2")
    assert forecasting.known("r1", "") == []
    assert "r1" not in looked_at(forecasting).agents
    later = await leader.forecasting()
    assert later.known(None, "cpu") == [("r2", "cpu")]


async def test_steps_of_another_length_are_no_past(leader: Leader) -> None:
    """D6: after a change of the settings the leader begins anew."""
    await leader.run(await leader.forecasting(), [0.5] * 10)
    later = await leader.forecasting(ForecastSettings(short_step_s=2, medium_step_s=2, long_step_s=2))
    assert later.known(None, "") == []


async def test_a_kept_step_that_cannot_be_read_is_left_out(leader: Leader) -> None:
    """D6: and so is one that has not been yet."""
    await leader.run(await leader.forecasting(), [0.5] * 10)
    (kept, *_) = [one for one in leader.proposed if isinstance(one, KeepLoads)]
    for at, packed in enumerate((b"", b"nonsense", kept.packed[:-3], bytes(1_000))):
        leader.propose(KeepLoads(0, at, packed))
    leader.now -= 5_000
    later = await leader.forecasting()
    assert len(later.bank.past(0, [("r1", "cpu")])) == 5


async def test_garbage_of_an_agent_is_not_taken_for_load(leader: Leader) -> None:
    """D6: CPU and memory are missing then; the scheduler's load is full."""
    forecasting = await leader.forecasting()
    await leader.run(forecasting, [float("nan"), -1.0, float("inf"), 1e300])
    assert forecasting.known("r1", "") == [("r1", "load"), ("r1", "memory")]
    assert forecasting.forecasts(("r1", "load"))[0].value == 1.0


async def test_forecasts_can_be_switched_off(leader: Leader) -> None:
    """D6: nothing is kept then, and whoever asks is told why there is nothing."""
    forecasting = await leader.forecasting(ForecastSettings(enabled=False))
    await leader.run(forecasting, [0.5] * 10)
    assert leader.proposed == []
    assert forecasting.expected() is NOTHING_EXPECTED
    with pytest.raises(WrongState, match=r"forecast\.enabled"):
        forecasting.known(None, "")


# --- slow models --------------------------------------------------------------------------------------------

SLOW = ForecastSettings(
    short_step_s=1, medium_step_s=1, long_step_s=1, extras="arima", extra_interval_s=1, extra_series=3
)


@pytest.mark.parametrize(("answer", "used"), [(0.9, True), (0.1, False), (None, False)])
async def test_a_slow_model_competes_like_any_other(leader: Leader, answer: float | None, used: bool) -> None:
    """D6: it is used where it was right, and one that fails costs nothing."""
    slow = Slow(answer)
    forecasting = await leader.forecasting(SLOW, slow)
    await leader.run(forecasting, [0.5] * 40)
    await until(lambda: len(slow.asked) >= 3)
    calls = {call.past.shape[1] for call in slow.asked}
    assert calls <= {1, 2, 3}
    # It foresees a jump to 0.9 that lasts; what was there before says nothing of it.
    await leader.run(forecasting, [0.5, 0.9] * 30)
    said = {one.model for one in forecasting.forecasts(("r1", "cpu"), "short")}
    assert ("arima" in said) == used
    forecasting.stop()
    assert slow.stopped
