"""Agents: sessions and what they reconcile, loss, goodbye, drain, capacity, load (D1, D2, D7, F2, F3, F4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from coordinator.core import commands as c
from coordinator.core.limits import LOAD_GRIDS, LOAD_STEP_BYTES, LOAD_STEPS
from coordinator.core.model import AgentLoad, AgentState, AttemptOutcome, Drain
from coordinator.core.outcome import AgentChanged, Done, Refusal, SessionOpened, Table

if TYPE_CHECKING:
    from tests.core.conftest import Driver


@pytest.fixture
def busy(node: Driver) -> Driver:
    """The agent "w" runs a and b of the DAG "d"; "c" waits for "a", "x" is READY."""
    node.join("w")
    node.submit("d", {"a": [], "b": [], "c": ["a"], "x": []})
    node.start("w", "d", "a", "b")
    return node


def test_a_session_is_numbered_higher_than_any_before(node: Driver) -> None:
    """D1, F3: also than those of an agent that was forgotten."""
    first = node.join("w")
    assert first == SessionOpened(node.epoch("w"), [], False)
    seen = [node.epoch("w")]
    node.join("w")
    seen.append(node.epoch("w"))
    node.do(c.CloseSession("w", node.epoch("w"), True))
    assert node.do(c.ForgetAgents([("w", node.epoch("w"))])) == Done(1)
    node.join("w")
    seen.append(node.epoch("w"))
    assert seen == sorted(set(seen))


def test_an_agent_that_reconnects_keeps_what_it_holds(busy: Driver) -> None:
    """F4: bound to the new session; nothing is stopped and nothing dispatched again."""
    held = [(busy.key("d", "a"), 1), (busy.key("d", "b"), 1)]
    busy.do(c.CloseSession("w", busy.epoch("w"), False))
    outcome = busy.apply(c.OpenSession(busy.spec("w"), held))
    assert outcome.replies == [SessionOpened(busy.epoch("w"), [], False)]
    assert (outcome.effects.dispatch, outcome.effects.halt, outcome.effects.ready) == ([], [], [])
    assert busy.states("d") == {"a": "RUNNING", "b": "RUNNING", "c": "PENDING", "x": "READY"}
    busy.do(busy.said("w", "d", "a"))
    assert busy.states("d")["a"] == "COMPLETED"


def test_what_an_agent_comes_back_without_goes_to_others(busy: Driver) -> None:
    """F4, D7: LOST, and READY at once."""
    outcome = busy.apply(c.OpenSession(busy.spec("w"), [(busy.key("d", "b"), 1)]))
    assert outcome.effects.ready == [busy.key("d", "a")]
    assert busy.states("d") == {"a": "READY", "b": "RUNNING", "c": "PENDING", "x": "READY"}
    assert busy.task("d", "a").attempts[-1].outcome.name == "LOST"
    assert busy.task("d", "a").failures == 0


def test_what_is_not_the_agents_is_to_be_dropped(busy: Driver) -> None:
    """F3, F4: a superseded number, another agent's, an ended one, an unknown key."""
    busy.join("v")
    busy.start("v", "d", "x")
    busy.do(busy.said("w", "d", "a"))
    a, b, x = (busy.key("d", one) for one in "abx")
    foreign = [(b, 2), (x, 1), (a, 1), (12_345, 1), (-1, 1)]
    reply = busy.join("w", held=[*foreign, (b, 1), (b, 1)])
    assert reply == SessionOpened(busy.epoch("w"), foreign, False)
    assert busy.states("d") == {"a": "COMPLETED", "b": "RUNNING", "c": "READY", "x": "RUNNING"}


def test_a_stopping_attempt_takes_room_until_the_agent_is_rid_of_it(busy: Driver) -> None:
    """F3, E2: over sessions too, as long as the agent says that it still has it."""
    a, b = busy.key("d", "a"), busy.key("d", "b")
    busy.do(c.CancelTask("", "d", "a"))
    assert busy.join("w", held=[(a, 1), (b, 1)]) == SessionOpened(busy.epoch("w"), [(a, 1)], False)
    assert list(busy.state.agents["w"].record.stopping) == [(a, 1)]
    busy.join("w", held=[(b, 1)])
    assert busy.state.agents["w"].record.stopping == {}


def test_loss_requeues_what_the_agent_held(busy: Driver) -> None:
    """D7, F2: whether it is disconnected or seems connected; a second declaration changes nothing."""
    epoch = busy.epoch("w")
    busy.do(c.CancelTask("", "d", "b"))
    outcome = busy.apply(c.LoseAgents([("w", epoch), ("w", epoch), ("nobody", 1)], "silent"))
    assert outcome.replies == [Done(1)]
    assert outcome.effects.ready == [busy.key("d", "a")]
    record = busy.state.agents["w"].record
    assert (record.state, record.stopping, busy.state.agents["w"].held) == (AgentState.LOST, {}, {})
    assert busy.task("d", "a").attempts[-1].reason == "silent"
    assert isinstance(busy.do(c.Report("w", epoch, [])), Refusal)
    assert busy.do(c.LoseAgents([("w", epoch)], "silent")) == Done(0)


def test_what_an_agent_held_is_requeued_in_the_same_order_on_every_node(busy: Driver) -> None:
    """A4: a restarted node has forgotten in which order it was given. (The driver compares the two.)"""
    busy.do(busy.said("w", "d", "a", outcome=AttemptOutcome.REJECTED))
    busy.assign("w", "d", "x", "a")
    outcome = busy.apply(c.LoseAgents([("w", busy.epoch("w"))], "silent"))
    assert outcome.effects.ready == [busy.key("d", one) for one in "abx"]
    busy.join("w")
    busy.assign("w", "d", "x", "b", "a")
    busy.join("w")
    assert busy.outcomes[-1].effects.ready == [busy.key("d", one) for one in "abx"]


def test_loss_of_a_session_before_the_present_one_is_void(busy: Driver) -> None:
    """F4: the agent came back while its loss was on its way."""
    old = busy.epoch("w")
    busy.join("w", held=[(busy.key("d", "a"), 1), (busy.key("d", "b"), 1)])
    assert busy.do(c.LoseAgents([("w", old)], "silent")) == Done(0)
    assert busy.states("d")["a"] == "RUNNING"


def test_a_lost_agent_that_comes_back_drops_everything(busy: Driver) -> None:
    """F3: its attempts are others' by now."""
    busy.do(c.LoseAgents([("w", busy.epoch("w"))], "silent"))
    held = [(busy.key("d", "a"), 1), (busy.key("d", "b"), 1)]
    assert busy.join("w", held=held) == SessionOpened(busy.epoch("w"), held, False)
    assert busy.states("d")["a"] == "READY"


def test_goodbye_gives_back_what_is_held(busy: Driver) -> None:
    """D1: the agent is STOPPED; without goodbye it is waited for."""
    epoch = busy.epoch("w")
    assert busy.do(c.CloseSession("w", epoch, True)) == AgentChanged(AgentState.STOPPED)
    assert busy.states("d") == {"a": "READY", "b": "READY", "c": "PENDING", "x": "READY"}
    assert busy.refused(c.CloseSession("w", epoch, True)) == "STALE_FENCE"


def test_a_closed_session_keeps_its_attempts_and_gets_no_more(busy: Driver) -> None:
    """D7, F4: reports that were on their way are still taken."""
    epoch = busy.epoch("w")
    assert busy.refused(c.CloseSession("w", epoch - 1, False)) == "STALE_FENCE"
    assert busy.refused(c.CloseSession("nobody", 1, False)) == "STALE_FENCE"
    assert busy.do(c.CloseSession("w", epoch, False)) == AgentChanged(AgentState.DISCONNECTED)
    assert busy.assign("w", "d", "x") == Done(0)
    assert busy.do(busy.said("w", "d", "a")) == Done(1)
    assert busy.states("d")["a"] == "COMPLETED"


# --- drain --------------------------------------------------------------------------------------------------


def test_a_drained_agent_finishes_what_it_holds_and_gets_no_more(busy: Driver) -> None:
    """D1: until the drain is undone."""
    busy.do(c.DrainAgent("", "w"))
    assert busy.assign("w", "d", "x") == Done(0)
    assert busy.outcomes[-1].effects.ready == [busy.key("d", "x")]
    assert busy.do(busy.said("w", "d", "a")) == Done(1)
    busy.do(c.DrainAgent("", "w", undo=True))
    assert busy.assign("w", "d", "x") == Done(1)
    assert busy.refused(c.DrainAgent("", "nobody")) == "NOT_FOUND"


def test_an_operators_drain_outlives_sessions_and_instances(node: Driver) -> None:
    """D1: also when the agent said in between that it is leaving."""
    node.join("w")
    node.do(c.DrainAgent("", "w"))
    node.do(c.DrainAgent("", "w", leaving=True))
    assert node.join("w", instance_id="i2") == SessionOpened(node.epoch("w"), [], True)
    assert node.state.agents["w"].record.drain is Drain.OPERATOR


def test_leaving_ends_with_the_instance_that_left(node: Driver) -> None:
    """D1: a reconnect of the same process is still leaving; its successor is not."""
    node.join("w")
    node.do(c.DrainAgent("", "w", leaving=True))
    assert node.join("w") == SessionOpened(node.epoch("w"), [], True)
    assert node.join("w", instance_id="i2") == SessionOpened(node.epoch("w"), [], False)


# --- capacity -----------------------------------------------------------------------------------------------


def test_credit_is_never_exceeded(node: Driver) -> None:
    """D1, E2: within one round as over many; what was not placed is announced again."""
    node.join("w", credit=2)
    node.submit("d", {str(at): [] for at in range(4)})
    choices = [node.choice("w", "d", str(at)) for at in range(4)]
    outcome = node.apply(c.Assign([choices[0], *choices]))
    assert outcome.replies == [Done(2)]
    assert outcome.effects.ready == [node.key("d", "2"), node.key("d", "3")]
    node.do(node.said("w", "d", "0"))
    assert node.do(c.Assign(choices)) == Done(1)


@pytest.mark.parametrize(
    "name", ["milli_cores", "memory_bytes", "gpu_memory_bytes", "disk_bytes", "bandwidth_bps"]
)
def test_no_resource_is_exceeded(node: Driver, name: str) -> None:
    """E2: stopping attempts count; a task that needs nothing always fits."""
    node.do(c.OpenSession(node.spec("w", credit=10, **{name: 10}), []))
    node.submit("d", {"a": [], "b": [], "c": []}, node.profile(**{name: 5}))
    node.submit("e", {"a": []}, node.profile(**{name: 11}))
    node.submit("f", {"a": []})
    assert node.assign("w", "e", "a") == Done(0)
    assert node.assign("w", "d", "a", "b", "c") == Done(2)
    assert node.assign("w", "f", "a") == Done(1)
    node.do(c.CancelTask("", "d", "a"))
    assert node.assign("w", "d", "c") == Done(0)
    node.do(node.said("w", "d", "a"))
    assert node.assign("w", "d", "c") == Done(1)


@pytest.mark.parametrize("kind", ["tool", "model"])
def test_no_more_tasks_of_a_tool_or_model_at_once_than_the_agent_allows(node: Driver, kind: str) -> None:
    """D8: stopping attempts count, those of the other kind do not; others have no bound."""
    node.join("w", credit=10, **{f"{kind}_limits": (("drill", 2), ("zoom", 1))})
    for dag_id, named in (("d", {kind: "drill"}), ("e", {kind: "saw"})):
        node.submit(dag_id, {"a": [], "b": [], "c": []}, node.profile(**named))
    other = {"tool": "model", "model": "tool"}[kind]
    node.submit("f", {"a": [], "b": [], "c": []}, node.profile(**{other: "drill"}))
    assert node.assign("w", "d", "a", "b", "c") == Done(2)
    assert node.assign("w", "e", "a", "b", "c") == Done(3)
    assert node.assign("w", "f", "a", "b", "c") == Done(3)
    node.do(c.CancelTask("", "d", "a"))
    assert node.assign("w", "d", "c") == Done(0)
    node.do(node.said("w", "d", "a"))
    assert node.assign("w", "d", "c") == Done(1)


def test_the_bounds_on_tools_hold_for_rivals_and_moves_and_may_change(node: Driver) -> None:
    """D1, D8: what is held stays, and nothing is added until there are fewer than the new bound."""
    limits = {"tool_limits": (("drill", 1),)}
    node.join("v")
    node.join("w", **limits)
    node.submit("d", {"a": [], "b": [], "c": []}, node.profile(tool="drill", max_attempts=2))
    node.assign("v", "d", "a", "b")
    assert node.assign("w", "d", "c") == Done(1)
    assert node.do(c.Assign([node.choice("w", "d", "a", rival=True)])) == Done(0)
    assert node.do(c.Recall([c.Move(1, node.choice("w", "d", "b"))], "sooner")) == Done(0)
    node.do(c.ChangeAgent(node.spec("w", tool_limits=(("drill", 2),)), node.epoch("w")))
    assert node.do(c.Recall([c.Move(1, node.choice("w", "d", "b"))], "sooner")) == Done(1)
    node.do(c.ChangeAgent(node.spec("w", **limits), node.epoch("w")))
    assert len(node.state.agents["w"].held) == 2
    node.do(node.said("w", "d", "c"))
    assert node.do(c.Assign([node.choice("w", "d", "a", rival=True)])) == Done(0)


def test_a_choice_for_a_session_or_attempt_that_is_over_is_dropped(busy: Driver) -> None:
    """F3: the planner saw an older state."""
    choice = busy.choice("w", "d", "x")
    busy.join("w", held=[(busy.key("d", "a"), 1), (busy.key("d", "b"), 1)])
    assert busy.do(c.Assign([choice])) == Done(0)
    again = c.Choice(choice.key, 2, "w", busy.epoch("w"))
    assert busy.do(c.Assign([again, c.Choice(choice.key, 1, "nobody", 1)])) == Done(0)
    assert busy.do(c.Assign([c.Choice(busy.key("d", "a"), 2, "w", busy.epoch("w"))])) == Done(0)


def test_an_agent_may_come_back_with_less_to_offer(busy: Driver) -> None:
    """D1: it keeps what it holds, and gets nothing until that fits."""
    held = [(busy.key("d", "a"), 1), (busy.key("d", "b"), 1)]
    busy.join("w", held=held, credit=1)
    assert busy.assign("w", "d", "x") == Done(0)
    busy.do(busy.said("w", "d", "a"))
    assert busy.assign("w", "d", "x") == Done(0)
    busy.do(busy.said("w", "d", "b"))
    assert busy.assign("w", "d", "x") == Done(1)


# --- load, and the end --------------------------------------------------------------------------------------


def test_the_latest_load_of_known_agents_is_kept(node: Driver) -> None:
    """D2."""
    node.join("w")
    loads = {"w": AgentLoad(cpu=0.5, queued=3), "nobody": AgentLoad()}
    assert node.do(c.RecordLoads(loads)) == Done(1)
    assert node.store.get(Table.AGENT_LOAD, b"w", AgentLoad) == loads["w"]


def test_the_load_of_the_past_takes_bounded_room(node: Driver) -> None:
    """D6: a step takes the place of the one that is a whole ring older; what has no place is refused."""
    for number in (5, 6, 5 + LOAD_STEPS):
        assert node.do(c.KeepLoads(1, number, b"%d" % number)) == Done(1)
    assert node.do(c.KeepLoads(2, 5, b"other")) == Done(1)
    for grid, packed in ((LOAD_GRIDS, b""), (-1, b""), (0, bytes(LOAD_STEP_BYTES + 1))):
        assert node.do(c.KeepLoads(grid, 5, packed)) == Done(0)
    keys = sorted(node.store.keys(Table.LOAD_STEP))
    assert [node.store.rows[Table.LOAD_STEP, key] for key in keys] == [
        b"%d" % (5 + LOAD_STEPS),
        b"6",
        b"other",
    ]


def test_only_agents_that_are_gone_are_forgotten(busy: Driver) -> None:
    """D1: nothing of them stays stored."""
    busy.do(c.RecordLoads({"w": AgentLoad(cpu=0.5)}))
    epoch = busy.epoch("w")
    assert busy.do(c.ForgetAgents([("w", epoch)])) == Done(0)
    busy.do(c.CloseSession("w", epoch, False))
    assert busy.do(c.ForgetAgents([("w", epoch)])) == Done(0)
    busy.do(c.LoseAgents([("w", epoch)], "silent"))
    assert busy.do(c.ForgetAgents([("w", epoch - 1), ("nobody", 1)])) == Done(0)
    assert busy.do(c.ForgetAgents([("w", epoch), ("w", epoch)])) == Done(1)
    assert not busy.store.keys(Table.AGENT)
    assert not busy.store.keys(Table.AGENT_STATS)
    assert not busy.store.keys(Table.AGENT_LOAD)


def test_an_agent_that_is_forgotten_and_comes_back_in_one_entry_is_stored(busy: Driver) -> None:
    """D1: as new, without the load of the one before."""
    busy.do(c.RecordLoads({"w": AgentLoad(cpu=0.5)}))
    epoch = busy.epoch("w")
    busy.do(c.CloseSession("w", epoch, True))
    busy.apply(c.ForgetAgents([("w", epoch)]), c.OpenSession(busy.spec("w"), []))
    assert busy.store.rebuild().agents["w"].record.state is AgentState.CONNECTED
    assert busy.store.rebuild().agents["w"].load == AgentLoad()


def test_an_agent_changes_what_it_offers_while_its_session_is_open(busy: Driver) -> None:
    """D1: what it holds stays, also where it is more than it takes now; nothing further is given."""
    outcome = busy.apply(c.ChangeAgent(busy.spec("w", credit=1, zone="north"), busy.epoch("w")))
    assert outcome.replies == [AgentChanged(AgentState.CONNECTED)]
    assert outcome.effects.sessions == ["w"]
    assert busy.state.agents["w"].record.spec == busy.spec("w", credit=1, zone="north")
    assert busy.states("d") == {"a": "RUNNING", "b": "RUNNING", "c": "PENDING", "x": "READY"}
    assert busy.assign("w", "d", "x") == Done(0)
    busy.do(c.ChangeAgent(busy.spec("w", credit=3), busy.epoch("w")))
    assert busy.assign("w", "d", "x") == Done(1)


def test_a_change_of_another_session_or_process_is_refused(busy: Driver) -> None:
    """D1, F3."""
    spec, epoch = busy.spec("w", credit=9), busy.epoch("w")
    assert busy.refused(c.ChangeAgent(busy.spec("nobody"), epoch)) == "STALE_FENCE"
    assert busy.refused(c.ChangeAgent(busy.spec("w", instance_id="other", credit=9), epoch)) == "STALE_FENCE"
    assert busy.refused(c.ChangeAgent(spec, epoch - 1)) == "STALE_FENCE"
    busy.do(c.CloseSession("w", epoch, False))
    assert busy.refused(c.ChangeAgent(spec, epoch)) == "STALE_FENCE"
    assert busy.state.agents["w"].record.spec.credit == 4
