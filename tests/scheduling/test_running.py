"""What agents hold in time, against a plain model under any order of events, time going back included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import Kind
from coordinator.core.model import AgentSpec, TaskFamily, TaskProfile
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning.chance import remaining
from coordinator.scheduling.learning.estimates import Estimates
from coordinator.scheduling.tasks import running as module
from coordinator.scheduling.tasks.running import Running

PROFILE = TaskProfile("t")
AGENTS = (("a", 1), ("b", 2), ("c", 3))


class Model:
    """Attempts by (key, number): row, expected ms, when they were given, when they began."""

    def __init__(self) -> None:
        self.agents = AgentTable()
        for agent_id, slots in AGENTS:
            self.agents.put(AgentSpec(agent_id, "i", slots, 100, speed=float(slots)), 1)
        self.estimates = Estimates(self.agents)
        self.running = Running(self.agents, self.estimates)
        self.held: dict[tuple[int, int], tuple[int, int, float | None]] = {}

    def hold(self, key: int, number: int, row: int, expected_ms: int, now_s: float) -> None:
        if (key, number) in self.held:
            return
        self.held[key, number] = (row, expected_ms, None)
        self.agents.hold(self.agents.ids[row], key, number, PROFILE, 1.0)
        self.running.hold(key, number, row, PROFILE, expected_ms, 1.0, now_s)

    def begin(self, key: int, number: int, now_s: float) -> None:
        if (key, number) in self.held:
            row, expected_ms, _ = self.held[key, number]
            self.held[key, number] = (row, expected_ms, now_s)
        self.running.begin(key, number, now_s)

    def release(self, key: int, number: int) -> None:
        known = self.held.pop((key, number), None)
        if known is not None:
            self.agents.release(self.agents.ids[known[0]], key, number)
        found = self.running.release(key, number)
        assert (found is None) == (known is None)

    def left(self, key: int, number: int, now_s: float) -> float:
        row, expected_ms, began = self.held[key, number]
        work = self.estimates.work(Kind("t", "", TaskFamily.UNSPECIFIED, expected_ms > 0), 0, expected_ms)
        log_speed, spread = self.estimates.log_speed(TaskFamily.UNSPECIFIED, row)
        elapsed = 0.0 if began is None else now_s - began
        sigma = (work.sigma**2 + spread**2) ** 0.5
        return remaining(np.array([work.log_mean - log_speed]), np.array([sigma]), np.array([elapsed])).item(
            0
        )

    def wait(self, row: int, now_s: float) -> float:
        slots = AGENTS[row][1]
        mine = [at for at, (of, _, _) in self.held.items() if of == row]
        if len(mine) < slots:
            return 0.0
        begun = [self.left(*at, now_s) for at in mine if self.held[at][2] is not None]
        queued = [self.left(*at, now_s) for at in mine if self.held[at][2] is None]
        return (min(begun) if begun else 0.0) + sum(queued) / slots

    def check(self, now_s: float) -> None:
        running = self.running
        assert len(running) == len(self.held)
        assert {at for at, _ in running.items()} == set(self.held)
        keys = {key for key, _ in self.held}
        for key in range(6):
            assert running.holds(key) == (key in keys)
            mine = {at: self.left(*at, now_s) for at in self.held if at[0] == key}
            found = running.ends(key, now_s)
            if not mine:
                assert found is None
                continue
            assert found is not None
            least = min(mine.values())
            assert found[1] == pytest.approx(least)
            rows = [self.held[at][0] for at, left in mine.items() if left == pytest.approx(least)]
            assert found[0] in rows
            for at, left in mine.items():
                live = running.get(*at)
                assert live is not None
                assert (live.row, live.hint, live.began_s) == self.held[at]
                assert running.left_of(live, now_s) == pytest.approx(left)
                assert running.left(now_s).item(live.place) == pytest.approx(left)
        shared = {key: {number for one, number in self.held if one == key} for key in keys}
        assert {key: {number for number, _ in ones} for key, ones in running.shared().items()} == {
            key: numbers for key, numbers in shared.items() if len(numbers) > 1
        }
        assert running.waits(now_s).tolist() == pytest.approx(
            [self.wait(row, now_s) for row in range(len(AGENTS))]
        )


events = st.tuples(
    st.sampled_from(["hold", "hold", "hold", "begin", "begin", "release", "now"]),
    st.integers(0, 5),
    st.integers(1, 3),
    st.integers(0, 2),
    st.sampled_from([0, 500, 20_000]),
    st.sampled_from([0.0, 0.001, 0.019, 0.3, 7.0, 1_000.0, -0.5, -100.0]),
)


@given(st.lists(events, max_size=40))
def test_it_is_that_of_a_plain_model(sequence: list[tuple[str, int, int, int, int, float]]) -> None:
    model, now_s = Model(), 1_000.0
    for event, key, number, row, expected_ms, step_s in sequence:
        now_s += step_s
        changed = False
        if event == "hold":
            changed = (key, number) not in model.held
            model.hold(key, number, row, expected_ms, now_s)
        elif event == "begin":
            model.begin(key, number, now_s)
        elif event == "release":
            model.release(key, number)
        else:
            # Within a moment what was computed before may still be told.
            now_s += 1.0
        if changed or abs(step_s) >= 0.02 or event == "now":
            model.check(now_s)


def test_an_agent_that_joins_has_no_wait_at_once() -> None:
    model = Model()
    model.hold(1, 1, 0, 0, 0.0)
    assert len(model.running.waits(5.0)) == 3
    model.agents.put(AgentSpec("d", "i", 1, 1), 1)
    waits = model.running.waits(5.0)
    assert waits.tolist()[1:] == [0.0, 0.0, 0.0]
    assert waits.item(0) > 0


def test_an_agent_that_offers_more_slots_has_no_wait_at_once() -> None:
    model = Model()
    model.hold(1, 1, 0, 0, 0.0)
    assert model.running.waits(5.0).item(0) > 0
    model.agents.put(AgentSpec("a", "i", 2, 100), 1)
    assert model.running.waits(5.0).item(0) == 0


def test_waits_are_the_callers_to_write_to() -> None:
    model = Model()
    model.hold(1, 1, 0, 0, 0.0)
    waits = model.running.waits(5.0)
    waits[:] = 99.0
    assert model.running.waits(5.0).item(0) < 99.0


def test_there_is_room_for_many_and_places_are_used_again() -> None:
    model = Model()
    for turn in range(3):
        for key in range(1_000):
            model.hold(key, turn + 1, key % 3, 1_000, 0.0)
        for key in range(1_000):
            model.release(key, turn + 1)
    assert len(model.running.left(0.0)) == 1_000
    model.check(5.0)


def test_what_runs_is_expected_anew_as_more_is_known_a_bounded_part_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_RENEWED_AT_LEAST", 2)
    model = Model()
    for key in range(5):
        model.hold(key, 1, 2, 0, 0.0)
    before = model.running.left(1.0).tolist()
    kind = Kind("t", "", TaskFamily.UNSPECIFIED, False)
    for _ in range(30):
        model.estimates.observe(kind, 7, "a", 60.0)
    model.estimates.renew()
    changed = []
    for _ in range(3):
        model.running.renew(0)
        left = model.running.left(1.0).tolist()
        changed.append(sum(one != other for one, other in zip(before, left, strict=True)))
    assert changed == [2, 4, 5]
    model.check(1.0)


@pytest.mark.parametrize(("waiting", "renewed"), [(0, 2), (5, 2), (12, 6), (10_000, 8)])
def test_the_more_is_decided_the_more_of_what_runs_is_expected_anew(
    monkeypatch: pytest.MonkeyPatch, waiting: int, renewed: int
) -> None:
    """Of those first that were longest not: what was given since is up to date."""
    monkeypatch.setattr(module, "_RENEWED_AT_LEAST", 2)
    monkeypatch.setattr(module, "_RENEWED_AT_ONCE", 8)
    model, asked = Model(), []
    for key in range(10):
        model.hold(key, 1, 2, 0, 0.0)
    model.running.renew(10_000)
    monkeypatch.setattr(model.running, "_expect", lambda key, live: asked.append(key))
    model.running.renew(10_000)
    assert asked == [], "all were expected by what is known still"
    kind = Kind("t", "", TaskFamily.UNSPECIFIED, False)
    for turn in (1, 2):
        model.estimates.observe(kind, 7, "a", 60.0)
        model.estimates.renew()
        model.running.renew(waiting)
        assert asked == [key % 10 for key in range(turn * renewed)]
