"""Agents for a scenario on a real cluster: `python -m examples.scenarios.crew ENDPOINTS PLAN`, where PLAN is
a JSON list of agents. One process can be many of them, and all of these are gone when it is killed."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Final

from agent_sdk import Agent, TaskContext

STEP_S: Final = 0.1
"""Between two checkpoints of a computation."""


async def compute(context: TaskContext) -> dict[str, int]:
    """Goes on from the last checkpoint; returns from which step, and how many there were."""
    steps = round(context.json()["seconds"] / STEP_S)
    first = int(context.checkpoint or b"0")
    for step in range(first, steps):
        await asyncio.sleep(STEP_S)
        context.raise_if_cancelled()
        context.save_checkpoint(b"%d" % (step + 1))
        context.progress((step + 1) / steps)
    return {"from": first, "steps": steps}


async def serve(endpoints: str, plan: list[dict[str, Any]]) -> None:
    """All of them, until this process is ended."""
    agents = [Agent(endpoints, **given) for given in plan]
    for agent in agents:
        agent.add_builtins(simulate=True)
        agent.handler("compute")(compute)
    await asyncio.gather(*(agent.run_async() for agent in agents))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], json.loads(sys.argv[2])))
