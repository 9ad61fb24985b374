"""One seed from its beginning to its verdict."""

from __future__ import annotations

import gc
import logging
import random
import sys
import warnings
from asyncio import events
from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog

from chaos.sim.checks import unequal
from chaos.sim.host_loop import HostLoop
from chaos.sim.plan import LOAD_S, Plan
from chaos.sim.schedule import Schedule
from chaos.sim.scheduler import Scheduler
from chaos.sim.world import World
from coordinator.replica.node import Node

LEADER_S: Final = 5.0
"""After the last fault somebody must lead within this time,"""
SETTLED_S: Final = 30.0
"""and everything that was begun must have come to its end within this one."""

_STEP_S: Final = 0.1


class Result(msgspec.Struct):
    """What became of a plan. `violations` is empty if every promise held."""

    plan: Plan
    violations: list[str]
    virtual_s: float
    digest: str
    steps: int
    faults: dict[str, int]
    events: dict[str, int]
    last_events: list[str]


def run(plan: Plan, *, keep_trace: bool = False, sweeps: bool = True) -> Result:
    """Run a plan in a fresh world. The same plan gives the same result, byte for byte. A process that has
    nothing else to do and ends now need not sweep up what the world leaves behind."""
    with _quiet(sweeps):
        return _play(plan, keep_trace)


def _play(plan: Plan, keep_trace: bool) -> Result:
    world = World(plan, keep_trace=keep_trace)
    world.boot()
    schedule = Schedule(world, plan.faults)
    _run(world, LOAD_S)
    if not world.witness.violations:
        schedule.end()
        world.heal()
        _demand_liveness(world)
    if not world.witness.violations:
        world.witness.judge_history()
    world.close()
    return Result(
        plan=plan,
        violations=world.witness.violations.copy(),
        virtual_s=world.scheduler.now,
        digest=world.trace.digest,
        steps=world.scheduler.steps,
        faults=dict(schedule.struck),
        events=dict(_events(world)),
        last_events=list(world.trace.lines),
    )


def _run(world: World, until_s: float) -> None:
    """Until then, or until soon after a promise was broken: what comes later is what follows from that."""
    while world.scheduler.now < until_s and not world.witness.violations:
        world.run(min(world.scheduler.now + _STEP_S, until_s))


def _demand_liveness(world: World) -> None:
    """The faults are over: a leader soon, and an end to all that was begun."""
    healed_s = world.scheduler.now
    missing = "a leader"
    led = False
    while missing and world.scheduler.now < healed_s + SETTLED_S and not world.witness.violations:
        world.run(world.scheduler.now + _STEP_S)
        led = led or world.leader() is not None
        if not led and world.scheduler.now > healed_s + LEADER_S:
            world.witness.break_promise(f"nobody leads {LEADER_S} s after the last fault")
            return
        missing = _unsettled(world)
    if missing and not world.witness.violations:
        world.witness.break_promise(f"{SETTLED_S} s after the last fault: {missing}")


def _unsettled(world: World) -> str:
    """What has not come to its end yet; empty if everything has."""
    leader, membership = world.leader(), world.membership()
    if leader is None or membership is None or world.operator.busy or world.steward.busy:
        changes = f"{world.operator.busy}, of the steward: {world.steward.busy}"
        return f"leader {leader}, members {membership}, changes under way: {changes}"
    expected = {member.id for member in membership} - world.losses.damaged
    belonging = world.belonging()
    strays = _strays(world, belonging, expected)
    if not expected <= belonging.keys() or strays:
        return f"running: {sorted(belonging)}, members: {sorted(expected)}, should have stopped: {strays}"
    if behind := [
        learner.id for learner in membership.learners if learner.promote and learner.id in expected
    ]:
        return f"not promoted: {behind}"
    state = belonging[leader].applier.newest
    lost = [
        dag
        for dag in world.witness.acknowledged
        if state.dag(dag) is None and dag not in state.finished and not world.witness.may_be_forgotten(dag)
    ]
    if lost:
        return f"acknowledged, and not there: {', '.join(lost)}"
    if state.dags:
        return "not ended: " + ", ".join(
            f"{dag.record.header.dag_id} {dag.counts}" for dag in state.dags.values()
        )
    if any(client.busy for client in world.clients.values()):
        return "clients wait for answers"
    return unequal(belonging[name].consensus.status() for name in sorted(expected))


def _strays(world: World, belonging: Mapping[str, Node], expected: set[str]) -> list[str]:
    """Nodes that have no place in the cluster any more and know where to find somebody who would tell them
    so."""
    there = {(name, world.nodes[name].config.myself.raft) for name in expected}
    return [
        name
        for name, node in belonging.items()
        if name not in expected | world.losses.damaged
        and any((member.id, member.raft) in there for member in node.members)
    ]


def _events(world: World) -> Counter[str]:
    """How often what was to be provoked has come about."""
    happened: Counter[str] = Counter(world.weather.struck)
    happened["configurations"] = world.checks.configurations
    happened["entries_applied"] = world.checks.highest_index
    happened["dags_acknowledged"] = len(world.witness.acknowledged)
    for command, count in world.checks.commands.items():
        happened[f"commands_{command}"] = count
    happened["operations"] = len(world.witness.operations)
    happened["attempts_begun"] = len(world.witness.begun)
    for outcome, count in world.checks.attempts.items():
        happened[f"attempts_{outcome.lower()}"] = count
    for program in world.nodes.values():
        happened.update(program.disk.happened)
        if program.node is not None:
            happened.update(program.node.consensus.status().counters)
    return happened


@contextmanager
def _quiet(sweeps: bool) -> Iterator[None]:
    """No logs, no garbage collector whose moment nobody can foretell; and what a world leaves behind when it
    is dropped, coroutines of dead processes above all, is nobody's business."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    logging.disable(logging.CRITICAL)
    hooks, unraisable = sys.get_asyncgen_hooks(), sys.unraisablehook
    gc.disable()
    gc.freeze()
    sys.unraisablehook = _ignore
    sys.set_asyncgen_hooks(firstiter=None, finalizer=_finish_generator)
    try:
        yield
    finally:
        if sweeps:
            sys.set_asyncgen_hooks(*hooks)
            _sweep()
            gc.unfreeze()
            sys.unraisablehook = unraisable
            gc.enable()
        logging.disable(logging.NOTSET)
        structlog.reset_defaults()


def _sweep() -> None:
    """Drop the world. What its coroutines begin in their last moments must go somewhere: else asyncio makes a
    loop for it, which keeps them, and with them the world, for good."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events._set_running_loop(
            HostLoop("dust", Scheduler(), random.Random(0), rate=1.0, on_error=_ignore_error)
        )
        gc.collect()
        events._set_running_loop(None)
        gc.collect()


def _finish_generator(generator: AsyncGenerator[Any, Any]) -> None:
    """As asyncio's loops do with a generator that nobody goes on with."""
    loop = events._get_running_loop()
    if loop is not None:
        loop.create_task(generator.aclose())


def _ignore_error(what: str, error: BaseException | None) -> None:
    """As `_ignore`."""


def _ignore(unraisable: object) -> None:
    """What is raised while a world is dropped."""
