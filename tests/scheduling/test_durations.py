"""How long tasks last on an agent, as it is remembered, is what the estimates say now (E2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.kinds import kind_of
from coordinator.core.model import INDEX_BITS, AgentSpec, TaskProfile
from coordinator.scheduling.agents.table import AgentTable
from coordinator.scheduling.learning import durations as module
from coordinator.scheduling.learning.durations import Durations
from coordinator.scheduling.learning.estimates import Estimates

BRIEF_S = 0.25
PROFILES = [TaskProfile("t"), TaskProfile("u")]
HINTS = [0, 40, 9_000, -20]
"""Nothing said, what it takes in ms, and what it reads."""
AGENTS = ["a", "b", "c"]
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(AGENTS), st.sampled_from([0.5, 1.0, 4.0])),
        st.tuples(st.just("remove"), st.sampled_from(AGENTS)),
        st.tuples(
            st.just("end"),
            st.sampled_from(AGENTS),
            st.sampled_from(PROFILES),
            st.sampled_from(HINTS),
            st.sampled_from([0.01, 0.3, 60.0]),
        ),
        st.tuples(st.just("renew")),
        st.tuples(st.just("ask")),
    ),
    max_size=30,
)


class Known:
    """Agents, what is learned of them, and what is remembered of that."""

    def __init__(self) -> None:
        self.agents = AgentTable()
        self.estimates = Estimates(self.agents)
        self.durations = Durations(self.agents, self.estimates, BRIEF_S)
        for agent in AGENTS:
            self.change(("put", agent, 1.0))

    def change(self, change: tuple[object, ...]) -> None:
        match change:
            case ("put", str(agent), float(speed)):
                self.agents.put(AgentSpec(agent, "i", 1, 9, speed=speed), 1)
            case ("remove", str(agent)) if agent in self.agents.rows:
                self.estimates.forget_row(self.agents.rows[agent])
                self.agents.remove(agent)
            case ("end", str(agent), TaskProfile() as profile, int(hint), float(seconds)):
                self.estimates.observe(kind_of(profile, hint), 1, agent, seconds, hint)
            case ("renew",):
                self.estimates.renew()
            case ("ask",):
                self.check()

    def check(self) -> None:
        """What is remembered is what would be found anew."""
        for profile in PROFILES:
            for hint in HINTS:
                for dag in (1, 2):
                    key = dag << INDEX_BITS
                    anew = Durations(self.agents, self.estimates, BRIEF_S)
                    brief = self.durations.is_brief(profile, key, hint)
                    assert brief == anew.is_brief(profile, key, hint)
                    for row in self.agents.rows.values():
                        assert self.durations.on(row, profile, key, hint) == pytest.approx(
                            anew.on(row, profile, key, hint)
                        )


@given(CHANGES)
def test_what_is_remembered_is_what_would_be_found_anew(changes: list[tuple[object, ...]]) -> None:
    known = Known()
    for change in changes:
        known.change(change)
    known.estimates.renew()
    known.check()


def test_a_task_is_brief_by_what_is_known_of_it_and_not_by_a_guess() -> None:
    known, profile = Known(), PROFILES[0]
    assert not known.durations.is_brief(profile, 0, 0)
    assert known.durations.is_brief(profile, 0, 40)
    assert not known.durations.is_brief(profile, 0, 9_000)
    known.change(("end", "a", profile, 0, 0.01))
    known.estimates.renew()
    assert known.durations.is_brief(profile, 0, 0)


def test_no_more_is_remembered_than_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_KEPT", 4)
    known = Known()
    for hint in range(1, 20):
        assert known.durations.on(0, PROFILES[0], 0, hint) == pytest.approx(hint / 1_000, rel=0.2)
        assert len(known.durations._seconds) <= 4
