"""How each kind of fault is brought about, and undone."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from chaos.sim.machine import Machine
from chaos.sim.plan import KINDS, Fault
from chaos.sim.weather import Harm
from chaos.sim.world import Undo, World
from coordinator.consensus.membership import Membership

_TURN_S: Final = 0.04
"""From one handing over to the next."""

_MOVE_S: Final = 0.02
"""From one move of work to the next."""

_CUT_OFF: Final = 0.25
_SILENT: Final = 0.35
"""Of the agents that are lost, so many are cut off; of the others, so many die without a word."""
_FEWEST_AGENTS: Final = 2


def strike(world: World, fault: Fault) -> Undo | None:
    """Bring the fault about; returns what ends it. None if it can do no harm now: its target is down, or
    nobody leads; or if it would do more than the cluster can bear."""
    meant = fault.target.split(">") if fault.target else []
    targets = [target for name in meant if (target := _target(world, name, KINDS[fault.kind].strikes))]
    if len(set(targets)) < len(meant):
        return None
    return _STRIKES[fault.kind](world, ">".join(targets), fault)


def _target(world: World, name: str, strikes: str) -> str | None:
    """The machine that is meant. For one that is gone for good, or is no member where it must be one, stands
    the next of its sort; while nobody leads, the leader is who led last, unless it must lead. None if there
    is none."""
    if name == "leader":
        name = world.leader() or (strikes != "leader" and world.checks.last_leader) or ""
    elif name == "newest":
        name = world.newest()
    fit = world.machines.keys() - world.gone
    if strikes in ("member", "disk"):
        members = {member.id for member in world.known_membership() or ()}
        fit = members if strikes == "member" else members & fit
    ring = next((list(sort) for sort in (world.nodes, world.agents, world.clients) if name in sort), [])
    at = ring.index(name) if ring else 0
    return next((one for one in ring[at:] + ring[:at] if one in fit), None)


# --- processes ----------------------------------------------------------------------------------------------


def _die(world: World, target: str, fault: Fault, *, power: bool) -> Undo | None:
    machine = world.machines[target]
    process = machine.process
    if process is None:
        return None

    def end() -> None:
        if machine.process is process:
            machine.crash(silent=power)
            if power and target in world.nodes:
                world.nodes[target].disk.crash()

    process.fuse = int(fault.amount)
    process.on_fuse = end
    return world.hold_down(target)


def _kill(world: World, target: str, fault: Fault) -> Undo | None:
    return _die(world, target, fault, power=False)


def _power_loss(world: World, target: str, fault: Fault) -> Undo | None:
    return _die(world, target, fault, power=True)


def _stop(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    program = world.nodes[target] if target in world.nodes else world.agents[target]
    if world.machines[target].process is None:
        return None
    program.ask_to_stop()
    return world.hold_down(target)


def _agent_lost(world: World, target: str, fault: Fault) -> Undo | None:
    """An agent never comes back: it is killed, or its power fails, or it is cut off from all nodes and
    does not know it. Another comes under a name of its own where fewer than two would be left."""
    rng = random.Random(fault.at_s)
    if rng.random() < _CUT_OFF:
        _cut(world, _between([target], [*world.plan.node_ids, *world.plan.spare_ids]))
    elif _die(world, target, fault, power=rng.random() < _SILENT) is None:
        return None
    world.losses.agents.add(target)
    left = world.agents.keys() - world.losses.agents
    return world.take_on() if len(left) < _FEWEST_AGENTS else _nothing


def _pause(world: World, target: str, fault: Fault) -> Undo | None:
    process = world.machines[target].process
    if process is None:
        return None
    process.stall(fault.lasts_s)
    return _nothing


def _clock_jump(world: World, target: str, fault: Fault) -> Undo | None:
    machine = world.machines[target]
    machine.clock_offset_ms = int(fault.amount)
    return partial(_set_clock, machine, 0)


def _set_clock(machine: Machine, offset_ms: int) -> None:
    machine.clock_offset_ms = offset_ms


def _transfer(world: World, target: str, fault: Fault) -> Undo | None:
    """Leadership is handed on again and again, by whoever has it then: to any node that is named, fit for it
    or not, or to whichever has caught up."""
    rng = random.Random(fault.at_s)
    world.nodes[target].hand_over(_successor(world, rng))
    for turn in range(1, int(fault.amount)):
        world.scheduler.after(turn * _TURN_S, partial(_hand_on, world, rng))
    return _nothing


def _hand_on(world: World, rng: random.Random) -> None:
    leader = world.leader()
    if leader is not None:
        world.nodes[leader].hand_over(_successor(world, rng))


def _successor(world: World, rng: random.Random) -> str | None:
    return rng.choice([None, *world.nodes])


# --- the network --------------------------------------------------------------------------------------------


def _cut(world: World, ways: list[tuple[str, str]]) -> Undo:
    for source, target in ways:
        world.network.cut(source, target)

    def undo() -> None:
        for source, target in ways:
            world.network.mend(source, target)

    return undo


def _between(some: list[str], others: list[str]) -> list[tuple[str, str]]:
    return [way for one in some for other in others for way in ((one, other), (other, one))]


def _isolate(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    return _cut(world, _between([target], [other for other in world.nodes if other != target]))


def _halves(world: World, target: str, fault: Fault) -> Undo | None:
    """A minority, the target in it, is cut off from the rest, and half of the agents and clients with it."""
    rng = random.Random(fault.at_s)
    others = [other for other in world.nodes if other != target]
    minority = [target, *others[: (len(world.nodes) - 1) // 2 - 1]]
    users = [name for name in (*world.agents, *world.clients) if rng.random() < 0.5]
    rest = [name for name in world.machines if name not in minority and name not in users]
    return _cut(world, _between(minority + users, rest))


def _bridge(world: World, target: str, fault: Fault) -> Undo | None:
    """Only the target reaches all the others, which fall into two parts."""
    del fault
    others = [other for other in world.nodes if other != target]
    half = len(others) // 2
    return _cut(world, _between(others[:half], others[half:]))


def _one_way(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    source, _, other = target.partition(">")
    return _cut(world, [(source, other)])


def _both_ways(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    one, _, other = target.partition(">")
    return _cut(world, _between([one], [other]))


def _cut_off(world: World, target: str, fault: Fault) -> Undo | None:
    """An agent or client reaches no node."""
    del fault
    return _cut(world, _between([target], list(world.nodes)))


def _slow_link(world: World, target: str, fault: Fault) -> Undo | None:
    source, _, other = target.partition(">")
    slowness = world.network.slowness
    slowness[source, other] = fault.amount
    return partial(_drop, slowness, (source, other))


def _reset(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    source, _, other = target.partition(">")
    return _nothing if world.network.reset(source, other) else None


def _harm(field: str, world: World, target: str, fault: Fault) -> Undo | None:
    """The messages that the target sends and gets suffer."""
    harms = world.weather.harms
    ways = _between([target], [other for other in world.nodes if other != target])

    def be(share: float) -> None:
        for way in ways:
            harms[way] = harms.get(way, Harm())._replace(**{field: share})

    be(fault.amount)
    return partial(be, 0.0)


def _drop(table: dict[tuple[str, str], Any], way: tuple[str, str]) -> None:
    table.pop(way, None)


# --- disks --------------------------------------------------------------------------------------------------


def _disk_slow(world: World, target: str, fault: Fault) -> Undo | None:
    faults = world.nodes[target].disk.faults
    faults.slowness = fault.amount
    return lambda: setattr(faults, "slowness", 1.0)


def _sync_fails(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    faults = world.nodes[target].disk.faults
    faults.sync_fails = True
    return lambda: setattr(faults, "sync_fails", False)


def _disk_full(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    faults = world.nodes[target].disk.faults
    faults.full = True
    return lambda: setattr(faults, "full", False)


def _bit_flip(world: World, target: str, fault: Fault) -> Undo | None:
    """Whoever has the damaged disk must not be started with it again."""
    del fault
    membership = world.known_membership()
    if membership is None or not world.losses.bears(membership, lost=target):
        return None
    if not world.nodes[target].disk.flip_a_bit():
        return None
    world.losses.damaged.add(target)
    return _nothing


# --- membership ---------------------------------------------------------------------------------------------


def _member_add(world: World, target: str, fault: Fault) -> Undo | None:
    """A new node, whose machine is started when the fault ends. It is promoted by itself, or by hand."""
    del target
    new = world.next_spare()
    if new is None:
        return None
    world.operator.add(msgspec.structs.replace(new, promote=fault.amount > 0))
    return world.bring_in(new.id)


def _member_remove(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    membership = world.known_membership()
    if membership is None or not world.losses.bears(membership, leaving=target):
        return None
    world.operator.remove(target)
    return _nothing


def _member_replace(world: World, target: str, fault: Fault) -> Undo | None:
    """A new node comes for one that works, or for one whose machine is lost for good: one that is already, if
    there is such a one."""
    membership, lost = world.known_membership(), fault.amount > 0
    if membership is None:
        return None
    if lost:
        target = _damaged(world, membership) or target
    if not world.losses.bears(membership, **{"lost" if lost else "leaving": target}):
        return None
    new = world.next_spare()
    if new is None:
        return None
    if lost:
        world.losses.damaged.add(target)
        world.machines[target].crash(silent=True)
    world.operator.replace(target, new)
    return world.bring_in(new.id)


def _member_wipe(world: World, target: str, fault: Fault) -> Undo | None:
    """A node comes back under its id with an empty disk, one whose disk is damaged if there is such a one:
    with its old configuration, so that it takes itself for a founder, or told to wait until it is added.

    A founder is known for what it is only by those who know the folder that was bound to its id before. One
    that is being readmitted is left alone: which of two lost folders the leader met, nobody could tell.
    """
    membership, waits = world.known_membership(), fault.amount > 0
    if membership is None:
        return None
    target = _damaged(world, membership) or target
    member = membership.get(target)
    if member is None or not world.losses.bears(membership, lost=target):
        return None
    if target in world.losses.wiped or not member.incarnation or not (waits or world.all_know(target)):
        return None
    world.wipe(member, waits=waits)
    world.operator.readmit(member)
    return world.hold_down(target)


def _member_move(world: World, target: str, fault: Fault) -> Undo | None:
    """A member comes back on its disk at another address, before or after the cluster is told. It moves once:
    a change that was asked for before, and comes late, would have it looked for where it was."""
    del fault
    membership, program = world.known_membership(), world.nodes[target]
    if program.moved or membership is None or not world.losses.bears(membership, lost=target):
        return None
    program.move()
    world.operator.update(target)
    return world.hold_down(target)


def _damaged(world: World, membership: Membership) -> str | None:
    """A member whose machine or disk is lost."""
    return next((member.id for member in membership if member.id in world.losses.damaged), None)


# --- the load -----------------------------------------------------------------------------------------------


def _retry_storm(world: World, target: str, fault: Fault) -> Undo | None:
    del fault
    world.clients[target].storm()
    return _nothing


def _moves(world: World, target: str, fault: Fault) -> Undo | None:
    """Whoever leads moves what agents hold, again and again."""
    del target
    rng = random.Random(fault.at_s)
    for turn in range(int(fault.amount)):
        world.scheduler.after(turn * _MOVE_S, partial(_move, world, rng))
    return _nothing


def _move(world: World, rng: random.Random) -> None:
    leader = world.leader()
    if leader is not None:
        world.nodes[leader].move_work(rng)


def _nothing() -> None:
    """It ends by itself."""


_STRIKES: Final[dict[str, Callable[[World, str, Fault], Undo | None]]] = {
    "kill": _kill,
    "power_loss": _power_loss,
    "stop": _stop,
    "pause": _pause,
    "stall": _pause,
    "clock_jump": _clock_jump,
    "transfer": _transfer,
    "member_add": _member_add,
    "member_remove": _member_remove,
    "member_replace": _member_replace,
    "member_wipe": _member_wipe,
    "member_move": _member_move,
    "isolate": _isolate,
    "halves": _halves,
    "bridge": _bridge,
    "one_way": _one_way,
    "both_ways": _both_ways,
    "slow_link": _slow_link,
    "reset": _reset,
    "message_loss": partial(_harm, "lost"),
    "message_doubling": partial(_harm, "doubled"),
    "message_overtaking": partial(_harm, "overtaken"),
    "disk_slow": _disk_slow,
    "sync_fails": _sync_fails,
    "disk_full": _disk_full,
    "bit_flip": _bit_flip,
    "agent_kill": _kill,
    "agent_stop": _stop,
    "agent_lost": _agent_lost,
    "agent_pause": _pause,
    "agent_cut": _cut_off,
    "client_cut": _cut_off,
    "retry_storm": _retry_storm,
    "moves": _moves,
}
