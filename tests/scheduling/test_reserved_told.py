"""What is told of slots that are kept: who waits because of them, and who has one (E9, E10)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given

from coordinator.core import commands as c
from coordinator.core.model import INDEX_BITS, TaskProfile
from coordinator.core.reservations import kept_of
from coordinator.scheduling.agents.reserved import RESERVED
from coordinator.scheduling.costs.policies import policy
from coordinator.scheduling.explain import explain
from coordinator.scheduling.plans.assignments import Witness
from coordinator.scheduling.plans.looks import would_go
from tests.scheduling.clusters import START_MS
from tests.scheduling.test_reserved import MANY_TASKS, Keeping, worlds


class TestWhyATaskWaits:
    """The reason is told, with the reservation and until when."""

    def explained(self, cluster: Keeping, expected_ms: int = 0) -> list[str]:
        profile = TaskProfile("t", timeout_ms=60_000)
        found = explain(profile, cluster.snapshot, expected_ms, now_s=cluster.now_s, namespace="lab")
        assert (found.capable, found.feasible, found.summary[:4]) == (1, 0, "none")
        return [f"{one.agents} x {one.reason}: {one.detail}" for one in found.refusals]

    @pytest.mark.parametrize(
        ("fields", "expected"),
        [
            ({"slots": 2}, "keeps 2 slots of a for namespace shop, without end"),
            (
                {"end_ms": START_MS + 7_500, "agents": ("a",)},
                "keeps all slots of a for namespace shop for another 7.5 s",
            ),
            (
                {"slots": 2, "begin_ms": START_MS + 5_000},
                "keeps 2 slots of a for namespace shop in 5.0 s, and the task may take 60.0 s",
            ),
        ],
    )
    def test_by_the_reservation_and_its_time(self, fields: dict[str, Any], expected: str) -> None:
        cluster = Keeping()
        cluster.join("a", slots=2)
        cluster.reserve(**fields)
        assert self.explained(cluster) == [f"1 x {RESERVED}: reservation sale {expected}"]

    def test_whose_slots_they_are_may_have_them(self) -> None:
        cluster = Keeping()
        cluster.join("a", slots=2)
        cluster.reserve(slots=2)
        mine = explain(TaskProfile("t"), cluster.snapshot, now_s=cluster.now_s, namespace="shop")
        assert mine.feasible == 1

    @pytest.mark.parametrize("name", ["balanced", "least-loaded"])
    def test_so_is_why_another_agent_has_a_task(self, name: str) -> None:
        """When it is placed, and when it is asked for later."""
        cluster = Keeping(name)
        cluster.join("quick", slots=2, speed=4.0)
        cluster.join("slow", slots=2)
        cluster.reserve(agents=("quick",))
        cluster.want("lab", 1)
        witness = Witness(name, cluster.now_s, 1)
        cluster.apply(c.Assign(cluster.scheduler.decide(cluster.now_s, witness).choices))
        found = [witness.taken[0]]
        if name == "balanced":
            row, task = cluster.snapshot.agents.rows["slow"], cluster.task("t0", "lab")
            found.append(would_go(cluster.snapshot, policy(name), name, task, 1, row, cluster.now_s))
        for one in found:
            lost = {other.agent: other.lost for other in one.candidates}
            assert lost == {"slow": "", "quick": f"{RESERVED}: its free slots are kept for other namespaces"}


def kept(used: int, slots: int, name: str) -> str:
    """As it is told."""
    whose = f"reservation {name} keeps for namespace shop"
    return f"one of the {slots} slots that {whose}, of which {used} were in use"


class TestWhoseSlotATaskHas:
    @staticmethod
    def told(cluster: Keeping, name: str) -> list[str]:
        """Of the choices of the next decision, in their order."""
        witness = Witness(name, cluster.now_s, 99)
        decision = cluster.decide(witness)
        assert [(one.key, one.attempt) for one in witness.taken] == [
            (choice.key, choice.attempt) for choice in decision.choices
        ]
        return [one.reserved for one in witness.taken]

    @pytest.mark.parametrize("name", ["balanced", "least-loaded"])
    def test_of_each_of_a_round_until_none_is_left(self, name: str) -> None:
        """Reservations have their slots one after the other; those of others are no matter."""
        cluster = Keeping(name)
        cluster.reserve(slots=2)
        cluster.reserve("audit", "lab", slots=1)
        cluster.reserve("more", slots=1, begin_ms=START_MS - 1)
        cluster.reserve("late", slots=1, begin_ms=START_MS + 60_000)
        cluster.join("a", slots=5)
        cluster.want("shop", 1)
        assert self.told(cluster, name) == [kept(0, 2, "sale")]
        cluster.end_one("shop")
        cluster.want("lab", 1)
        cluster.settle()
        cluster.submit(dict.fromkeys("vwxyz", ()), dag_id="more", namespace="shop")
        assert self.told(cluster, name) == [
            kept(0, 2, "sale"),
            kept(1, 2, "sale"),
            kept(0, 1, "more"),
            "",
        ]

    def test_as_it_would_be_decided_now_where_that_was_not_taken_down(self) -> None:
        """What the namespace holds there beside it comes first."""
        cluster = Keeping()
        cluster.reserve(slots=1)
        cluster.join("a", slots=3)
        cluster.want("shop", 1)
        cluster.want("lab", 1)
        cluster.settle()

        def told(dag_id: str) -> str:
            row, task = cluster.snapshot.agents.rows["a"], cluster.task("t0", dag_id)
            return would_go(cluster.snapshot, policy("balanced"), "", task, 1, row, cluster.now_s).reserved

        assert (told("shop"), told("lab")) == (kept(0, 1, "sale"), "")
        cluster.submit({"t0": []}, dag_id="more", namespace="shop")
        assert told("more") == ""
        cluster.settle()
        assert (told("shop"), told("more")) == ("", "")
        cluster.end_one("shop")
        assert told("more") == kept(0, 1, "sale")


@MANY_TASKS
@given(worlds())
def test_a_choice_is_told_to_have_a_kept_slot_where_the_machine_says_one_is_left(cluster: Keeping) -> None:
    """By what its namespace holds there when its turn comes."""
    state, known = cluster.state, list(cluster.state.reservations.values())
    while True:
        held = Counter(
            (agent.record.spec.agent_id, state.dags[key >> INDEX_BITS].record.header.namespace)
            for agent in state.agents.values()
            for key in agent.held
        )
        witness = Witness("", cluster.now_s, 10_000)
        choices = cluster.decide(witness).choices
        told = {one.key: one.reserved for one in witness.taken}
        for one in choices:
            namespace = state.dags[one.key >> INDEX_BITS].record.header.namespace
            kept = kept_of(state.agents[one.agent].record.spec, known, cluster.now_ms).get(namespace, 0)
            if one.key in told:
                assert bool(told[one.key]) == (held[one.agent, namespace] < kept)
            held[one.agent, namespace] += 1
        if not choices:
            break
