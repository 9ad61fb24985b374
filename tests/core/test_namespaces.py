"""Namespaces: what an operator sets, and quotas that no command gets past (E8, E9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from coordinator.core import commands as c
from coordinator.core.limits import NAMESPACES_KEPT
from coordinator.core.model import DagHeader
from coordinator.core.namespaces import NamespaceRecord, Quotas
from coordinator.core.outcome import Done, NamespaceSet, Refusal

if TYPE_CHECKING:
    from tests.core.conftest import Driver

GIB = 1 << 30


def settings(node: Driver, name: str = "shop", **fields: Any) -> NamespaceRecord:
    """What is set after this has been."""
    reply = node.do(c.SetNamespace("", name, **fields))
    assert isinstance(reply, NamespaceSet), reply
    return reply.record


def test_settings_are_changed_one_by_one_and_forgotten_together(node: Driver) -> None:
    """What a command does not name stays as it is."""
    assert settings(node, weight=3.0) == NamespaceRecord("shop", 3.0)
    assert settings(node, quotas=Quotas(attempts=4, tasks=9)).quotas == Quotas(attempts=4, tasks=9)
    assert settings(node, policy="green", quotas=Quotas(attempts=0)) == NamespaceRecord(
        "shop", 3.0, Quotas(attempts=0, tasks=9), "green"
    )
    assert settings(node, policy="", lifted=("tasks",)) == NamespaceRecord("shop", 3.0, Quotas(attempts=0))
    assert node.do(c.UnsetNamespace("", "shop")) == Done(1)
    assert node.outcomes[-1].effects.namespaces == ["shop"]
    assert node.state.namespaces.settings == {}
    assert node.refused(c.UnsetNamespace("", "shop")) == "NOT_FOUND"


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "a\nb"},
        {"name": "n" * 257},
        {"weight": 0.0},
        {"weight": -1.0},
        {"weight": float("nan")},
        {"weight": float("inf")},
        {"quotas": Quotas(attempts=-1)},
        {"lifted": ("speed",)},
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(node: Driver, fields: dict[str, Any]) -> None:
    """Also what clients cannot send: the log may hold anything."""
    assert node.refused(c.SetNamespace("", **({"name": "shop"} | fields))) == "INVALID_REQUEST"
    assert node.state.namespaces.settings == {}


def test_the_number_of_namespaces_with_settings_is_bounded(node: Driver) -> None:
    """A namespace that has some may still be changed."""
    node.apply(*(c.SetNamespace("", f"n{at}", 2.0) for at in range(NAMESPACES_KEPT)))
    assert node.refused(c.SetNamespace("", "one more", 2.0)) == "LIMIT_EXCEEDED"
    assert settings(node, "n7", weight=5.0).weight == 5.0


@pytest.mark.parametrize(
    ("quotas", "fit"),
    [
        (Quotas(), 4),
        (Quotas(attempts=0), 0),
        (Quotas(attempts=3), 3),
        (Quotas(milli_cores=1_500), 1),
        (Quotas(memory_bytes=2 * GIB), 2),
        (Quotas(gpu_memory_bytes=0), 4),
        (Quotas(attempts=3, memory_bytes=2 * GIB), 2),
    ],
)
def test_no_attempt_begins_beyond_a_quota(node: Driver, quotas: Quotas, fit: int) -> None:
    """One entry with more choices than there is quota for: the first ones are carried out, the rest of the
    tasks is told of again. Others' quotas are their own."""
    settings(node, quotas=quotas)
    offers = {"milli_cores": 99_000, "memory_bytes": 99 * GIB}
    node.join("w", credit=20, **offers)
    profile = node.profile(milli_cores=1_000, memory_bytes=GIB)
    names = "abcd"
    for dag_id, namespace in (("d", "shop"), ("e", "default")):
        node.submit(dag_id, {name: [] for name in names}, profile, namespace=namespace)
    assert node.assign("w", "d", *names) == Done(fit)
    assert node.outcomes[-1].effects.ready == [node.key("d", name) for name in names[fit:]]
    assert node.assign("w", "e", *names) == Done(4)
    if fit:
        node.do(node.said("w", "d", "a"))
        assert node.assign("w", "d", *names[fit:]) == Done(min(1, 4 - fit))


def test_a_second_attempt_counts_and_a_move_does_not(node: Driver) -> None:
    """E8: quotas bound attempts, of whatever task."""
    settings(node, quotas=Quotas(attempts=1))
    for agent in "uvw":
        node.join(agent)
    node.submit("d", {"a": []}, namespace="shop")
    node.assign("w", "d", "a")
    rival = c.Assign([node.choice("v", "d", "a", rival=True)])
    assert node.do(rival) == Done(0)
    assert node.do(c.Recall([c.Move(1, node.choice("u", "d", "a"))], "sooner")) == Done(1)


def test_a_quota_that_is_lowered_takes_nothing_away(node: Driver) -> None:
    """What is held goes on; nothing is added."""
    node.join("w")
    node.submit("d", {"a": [], "b": [], "c": []}, namespace="shop")
    node.start("w", "d", "a", "b")
    settings(node, quotas=Quotas(attempts=1))
    node.do(node.said("w", "d", "a"))
    assert node.assign("w", "d", "c") == Done(0)
    node.do(node.said("w", "d", "b"))
    assert node.assign("w", "d", "c") == Done(1)


def test_tasks_beyond_a_quota_are_refused_whole(node: Driver) -> None:
    """Submitted at once, in parts, or added by a task that runs; ended tasks count no more."""
    settings(node, quotas=Quotas(tasks=3))
    node.join("w")
    node.submit("d", {"a": [], "b": []}, namespace="shop")
    reply = node.do(node.submission("e", {"a": [], "b": []}, namespace="shop"))
    assert isinstance(reply, Refusal)
    assert (reply.reason, reply.fields["value"], reply.fields["limit"]) == ("QUOTA_EXCEEDED", "2", "3")
    header = DagHeader("f", "shop")
    part = c.StageDag("", header, [node.profile()], node.block({"a": [], "b": []}), False)
    assert node.refused(part) == "QUOTA_EXCEEDED"
    node.start("w", "d", "a")
    tasks = [c.NewTask("s", node.profile()), c.NewTask("t", node.profile())]
    spawn = c.SpawnTasks("", "w", node.epoch("w"), node.key("d", "a"), 1, tasks)
    assert node.refused(spawn) == "QUOTA_EXCEEDED"
    node.do(node.said("w", "d", "a"))
    node.submit("e", {"a": [], "b": []}, namespace="shop")
    assert node.state.namespaces.usage["shop"].tasks == 3
    node.do(c.CancelDag("", "e"))
    assert node.state.namespaces.usage["shop"].tasks == 1
    node.submit("g", {"a": [], "b": [], "c": [], "e": []})
