"""What runs on an agent's machine: the real agent, whose handlers do as the task's payload says."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

from agent_sdk import Agent, QuorumflowError, Resources, Task, TaskContext
from agent_sdk.errors import PermanentError
from chaos.sim.client_program import MODELS, TOOLS
from chaos.sim.machine import Machine
from chaos.sim.network import Network
from chaos.sim.sdk_surroundings import sdk_surroundings
from chaos.sim.witness import Witness

_RESOURCES: Final = Resources(cores=4.0, memory_bytes=4 << 30)
_CHANGE_S: Final = 1.5
"""From one change of what an agent offers to the next."""


class AgentProgram:
    """Runs one agent on its machine, again and again."""

    def __init__(
        self, machine: Machine, network: Network, witness: Witness, endpoints: list[str], *, slots: int
    ) -> None:
        self.machine = machine
        self.agent: Agent | None = None
        """The agent of the present process."""
        self._network = network
        self._witness = witness
        self._endpoints = endpoints
        self._slots = slots
        self._rng = random.Random(machine.rng.random())
        self._turn = 0
        machine.on_death.append(network.died)

    def boot(self) -> None:
        """Start the agent's process."""
        self.machine.boot(self._run)

    def ask_to_stop(self) -> None:
        """As SIGTERM does."""
        if self.machine.process is not None and self.agent is not None:
            process, agent = self.machine.process, self.agent
            process.post(lambda: process.create_task(agent.stop(0.5)))

    async def _run(self) -> None:
        process = self.machine.process
        assert process is not None
        agent = self.agent = Agent(
            self._endpoints,
            self.machine.name,
            slots=self._slots,
            queue=20,
            resources=_RESOURCES,
            capabilities={"skill": 1 + len(self.machine.name) % 2},
            cancel_grace_s=0.2,
            tools=TOOLS,
            surroundings=sdk_surroundings(process, self._network),
        )
        agent.handler("*")(self._handle)
        process.create_task(self._keep_changing(agent))
        try:
            await agent.run_async()
        except QuorumflowError as error:
            self.machine.trace.note(self.machine.name, f"was refused: {error.reason}")

    async def _keep_changing(self, agent: Agent) -> None:
        while True:
            await asyncio.sleep(self._rng.expovariate(1 / _CHANGE_S))
            agent.update(**self._offer())

    def _offer(self) -> dict[str, Any]:
        """Something that can take any task by itself, and that was never offered before: a check that does
        not look at every entry is not misled."""
        rng = self._rng
        self._turn += 1
        return {
            "slots": rng.randint(1, 4),
            "resources": Resources(cores=rng.choice((2.5, 4.0, 8.0)), memory_bytes=4 << 30),
            "tool_limits": {tool: rng.randint(1, 3) for tool in TOOLS if rng.random() < 0.7},
            "model_limits": {model: rng.randint(1, 3) for model in MODELS if rng.random() < 0.7},
            "cached_models": [model for model in MODELS if rng.random() < 0.5],
            "speed": rng.choice((0.5, 1.0, 2.0)),
            "labels": {"offer": f"{self.machine.lives}-{self._turn}"},
        }

    async def _handle(self, context: TaskContext) -> bytes:
        orders = context.json()
        attempt = (context.dag_id, context.task_id, context.attempt)
        name = self.machine.name
        self._witness.begins(name, attempt)
        self.machine.trace.note(name, f"begins {context.dag_id}/{context.task_id} #{context.attempt}")
        half = orders["lingers" if "lingers" in orders and context.attempt == 1 else "seconds"] / 2
        await asyncio.sleep(half)
        if orders.get("checkpoint"):
            context.save_checkpoint(b"half")
            context.progress(0.5)
        for spawned in range(orders.get("spawn", 0) if context.attempt == 1 else 0):
            child = Task(id=f"{context.task_id}-{spawned}", type="work", payload={"seconds": 0.01})
            await context.spawn_async([child])
        await asyncio.sleep(half)
        context.raise_if_cancelled()
        if context.attempt <= orders.get("fails", 0):
            raise RuntimeError("failed, as it was asked to")
        if orders.get("hopeless"):
            raise PermanentError("failed for good, as it was asked to")
        self._witness.ends(name, attempt)
        self.machine.trace.note(name, f"ends {context.dag_id}/{context.task_id} #{context.attempt}")
        return f"{name} {context.attempt}".encode()
