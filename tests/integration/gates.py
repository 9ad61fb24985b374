"""Agents whose tasks run for as long as a test wants."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from agent_sdk import Agent, Dag, Task, TaskContext
from tests.integration.conftest import eventually


class Gate:
    """An agent whose tasks, of a type of its own, run until they are let go. `begun` are the payloads of
    tasks in the order in which they began."""

    def __init__(self, endpoints: list[str], slots: int) -> None:
        self.type = f"gate-{uuid.uuid4().hex}"
        self.begun: list[str] = []
        self.open = asyncio.Semaphore(0)
        self.agent = Agent(endpoints, self.type, slots=slots, queue=0)

        @self.agent.handler(self.type)
        async def wait(context: TaskContext) -> None:
            self.begun.append(context.payload.decode())
            await self.open.acquire()

    def dag(self, namespace: str, tasks: int, *, policy: str = "", **fields: Any) -> Dag:
        """Tasks for this agent."""
        dag = Dag(namespace=namespace, policy=policy)
        return dag.extend(Task(f"t{at}", self.type, payload=namespace, **fields) for at in range(tasks))

    async def has_begun(self, tasks: int) -> None:
        """Wait until so many have."""

        async def look() -> bool:
            return len(self.begun) >= tasks

        await eventually(look, f"{tasks} tasks have begun")
