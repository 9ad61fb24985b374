"""A world: machines, a network, what runs on them, and an operator who starts again what has died."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Final

from chaos.sim.agent_program import AgentProgram
from chaos.sim.checks import Checks
from chaos.sim.client_program import ClientProgram
from chaos.sim.disk import Disk
from chaos.sim.host_loop import HostLoop
from chaos.sim.losses import Losses
from chaos.sim.machine import Machine
from chaos.sim.network import Network
from chaos.sim.node_program import NodeProgram
from chaos.sim.operator_program import OperatorProgram
from chaos.sim.plan import FOR_GOOD_S, Plan
from chaos.sim.scheduler import Scheduler
from chaos.sim.steward_program import StewardProgram
from chaos.sim.trace import Trace
from chaos.sim.weather import Weather
from chaos.sim.witness import Witness
from coordinator.config import Given, NodeConfig, build
from coordinator.consensus.membership import Member, Membership
from coordinator.errors import LogCorrupt, Removed, StateCorrupt
from coordinator.replica.node import Node

Undo = Callable[[], None]
"""What ends a fault."""

_LOOK_S: Final = 0.1
_OPERATOR_S: Final = 0.3
"""How long the operator takes to start a process that stopped by itself."""


class World:
    """Everything that a plan's nodes, agents and clients live in. `boot` starts them, `run` lets time pass,
    `heal` brings back what the faults have left behind."""

    def __init__(self, plan: Plan, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.scheduler = Scheduler()
        self.trace = Trace(self.scheduler, keep_all=keep_trace)
        kept_s = plan.settings.get("retention.finished_age_s", FOR_GOOD_S)
        self.witness = Witness(lambda: self.scheduler.now, keeps_all=kept_s >= FOR_GOOD_S)
        self.disks: dict[str, Disk] = {}
        self.checks = Checks(self.witness, self.trace, self.disks)
        self.network = Network(self.scheduler, self._chance("network"), delay_s=plan.delay_s)
        self.weather = Weather(self._chance("weather"))
        self.machines: dict[str, Machine] = {}
        self.losses = Losses()
        self.retired: set[str] = set()
        """Nodes that were told that they are members no more."""
        self.held_down: Counter[str] = Counter()
        """How many faults keep a machine's process from being started again."""
        self.nodes = {node_id: self._node(node_id) for node_id in plan.node_ids}
        self._endpoints = [_member(node_id).grpc for node_id in (*plan.node_ids, *plan.spare_ids)]
        self._spares = deque(plan.spare_ids)
        self._added: list[str] = []
        self._known: Membership | None = None
        self.operator = OperatorProgram(
            self._machine("operator"),
            self.network,
            self._endpoints,
            self.losses,
            lambda node_id: self.nodes[node_id].config.myself,
        )
        self.steward = StewardProgram(
            self._machine("steward"), self.network, self._endpoints, lambda: list(self.agents)
        )
        self.agents = {name: self._agent(name) for name in plan.agent_ids}
        self.clients = {name: self._client(name) for name in plan.client_ids}

    def boot(self) -> None:
        """Start everything."""
        chance = self._chance("boot")
        for name in self.machines:
            self.scheduler.after(chance.uniform(0.0, 0.05), self._program(name).boot)
        self.scheduler.after(_LOOK_S, self._look)

    def run(self, until_s: float) -> None:
        """Let time pass."""
        self.scheduler.run(until_s)

    def leader(self) -> str | None:
        """The node that serves as the leader of the highest term."""
        leading = [
            (node.consensus.status().term, name)
            for name, (node, _) in self.running().items()
            if node.leadership.leader is not None
        ]
        return max(leading)[1] if leading else None

    def running(self) -> dict[str, tuple[Node, HostLoop]]:
        """The nodes that have a process which has loaded its state."""
        return {
            name: (program.node, program.machine.process)
            for name, program in self.nodes.items()
            if program.node is not None and program.machine.process is not None
        }

    def newest(self) -> str:
        """The last node that was added; at first the last founder."""
        return self._added[-1] if self._added else self.plan.node_ids[-1]

    @property
    def gone(self) -> set[str]:
        """Machines whose process must not be started again."""
        return self.losses.damaged | self.losses.agents | self.retired

    def membership(self) -> Membership | None:
        """What the leader's log says of it, if that is committed. One that was replaced and does not know it
        yet cannot tell."""
        leader = self.leader()
        if leader is None:
            return None
        consensus = self.running()[leader][0].consensus
        status, configuration = consensus.status(), consensus.journal.configuration
        if status.term < self.checks.last_term_led:
            return None
        return configuration.membership if configuration.index <= status.commit_index else None

    def known_membership(self) -> Membership | None:
        """The same, or the last that could be told."""
        membership = self.membership()
        if membership is not None:
            self._known = membership
            self.losses.learn(membership)
        return self._known

    def all_know(self, node_id: str) -> bool:
        """Whether every other node that runs or may run again has learned which folder is this one's."""
        others = self.nodes.keys() - self.losses.damaged - self.retired - {node_id}
        running = self.running()
        return others <= running.keys() and all(
            (known := running[other][0].consensus.membership.get(node_id)) is not None and known.incarnation
            for other in others
        )

    def next_spare(self) -> Member | None:
        """The node that is to run on the next spare machine; None if all are taken."""
        return _member(self._spares.popleft()) if self._spares else None

    def bring_in(self, node_id: str) -> Undo:
        """Set up a spare machine; it is started by calling the returned."""
        self._added.append(node_id)
        self.nodes[node_id] = self._node(node_id)
        return self.hold_down(node_id)

    def take_on(self) -> Undo:
        """Set up a machine for another agent, under a name of its own; it is started by calling the
        returned."""
        name = f"a{len(self.agents) + 1}"
        self.agents[name] = self._agent(name)
        return self.hold_down(name)

    def wipe(self, member: Member, *, waits: bool) -> None:
        """A node loses what is on its disk; `waits` as in `NodeProgram.wipe`."""
        self.losses.damaged.discard(member.id)
        self.losses.wiped[member.id] = member.incarnation
        self.checks.wiped(member.id)
        self.nodes[member.id].wipe(waits=waits)

    def belonging(self) -> dict[str, Node]:
        """The nodes that run and have, or had, a place in the cluster with the folders that they have
        now, as far as they know. One that was removed before it had learned that it had been added waits
        on."""
        return {
            name: node
            for name, (node, _) in self.running().items()
            if node.members.voters and node.consensus.speaks
        }

    def hold_down(self, name: str) -> Undo:
        """Keep the operator from starting a machine's process again until the returned is called."""
        self.held_down[name] += 1

        def let_up() -> None:
            self.held_down[name] -= 1
            self._restart(name)

        return let_up

    def heal(self) -> None:
        """The faults are over: let every process run that may."""
        self.trace.note("world", "heals")
        for name, machine in self.machines.items():
            if machine.process is not None:
                machine.process.resume()
            self._restart(name)
        self.steward.rest()
        for client in self.clients.values():
            client.rest()

    def close(self) -> None:
        """Stop everything where it stands."""
        for machine in self.machines.values():
            if machine.process is not None:
                machine.process.end()

    # --- inside ---------------------------------------------------------------------------------------------

    def _chance(self, what: str) -> random.Random:
        """A stream of its own for each purpose: a change in one place leaves the others alone."""
        return random.Random(f"{self.plan.seed}/{what}")

    def _machine(self, name: str) -> Machine:
        machine = Machine(name, self.scheduler, self._chance(name), self.trace, self._unexpected)
        machine.on_death.append(lambda process, silent: self._died(name))
        self.machines[name] = machine
        return machine

    def _node(self, node_id: str) -> NodeProgram:
        machine = self._machine(node_id)
        disk = self.disks[node_id] = Disk(node_id, self._chance(f"{node_id} disk"), sync_s=self.plan.sync_s)
        config = _config(self.plan, node_id)
        return NodeProgram(config, machine, disk, self.network, self.weather, self.checks)

    def _agent(self, name: str) -> AgentProgram:
        slots = self._chance(f"{name} slots").randint(1, 4)
        return AgentProgram(self._machine(name), self.network, self.witness, self._endpoints, slots=slots)

    def _client(self, name: str) -> ClientProgram:
        machine = self._machine(name)
        return ClientProgram(machine, self.network, self.witness, self._endpoints, pause_s=self.plan.pause_s)

    def _program(
        self, name: str
    ) -> NodeProgram | AgentProgram | ClientProgram | OperatorProgram | StewardProgram:
        for people in (self.operator, self.steward):
            if name == people.machine.name:
                return people
        return self.nodes.get(name) or self.agents.get(name) or self.clients[name]

    def _died(self, name: str) -> None:
        """The operator looks after a process that has ended."""
        words = self.nodes[name].last_words if name in self.nodes else None
        if isinstance(words, LogCorrupt | StateCorrupt) and name not in self.losses.damaged:
            self.witness.break_promise(f"{name} found damage where there is none: {words}")
        membership = self.membership()
        if (
            isinstance(words, Removed)
            and membership is not None
            and membership.get(name) is None
            and name not in self.operator.admitting
        ):
            self.retired.add(name)
        self.scheduler.after(_OPERATOR_S, partial(self._restart, name))

    def _restart(self, name: str) -> None:
        """Start a machine's process if it has none, and may have one."""
        barred = name in self.gone or self.held_down[name] > 0
        if self.machines[name].process is None and not barred:
            self._program(name).boot()

    def _look(self) -> None:
        self.checks.look(self.running())
        self.known_membership()
        self.scheduler.after(_LOOK_S, self._look)

    def _unexpected(self, what: str, error: BaseException | None) -> None:
        self.witness.break_promise(f"unexpected: {what}: {error!r}")


def _member(node_id: str) -> Member:
    return Member(node_id, f"{node_id}:7401", f"{node_id}:7400", promote=True)


def _config(plan: Plan, node_id: str) -> NodeConfig:
    """A node that is no founder waits to be added."""
    known = [_member(name) for name in dict.fromkeys((*plan.node_ids, node_id))]
    members = ",".join(f"{member.id}={member.raft}/{member.grpc}" for member in known)
    given: dict[str, object] = {"node_id": node_id, "cluster_nodes": members, "tls.mode": "off"}
    given["join"] = node_id not in plan.node_ids
    given |= plan.settings | {f"raft.{name}": value for name, value in plan.raft.items()}
    return build({key: Given(value, "plan") for key, value in given.items()})
