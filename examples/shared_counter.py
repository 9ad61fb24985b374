"""`python -m examples.shared_counter HOST:PORT,...`: three clients increment one counter at once, and none of
the increments is lost.

Each reads the counter, and writes what follows it only if nobody else has written meanwhile.
"""

from __future__ import annotations

import asyncio
import sys

from agent_sdk import AsyncClient, StaleVersion

KEY = "example/visits"
CLIENTS = 3
VISITS = 10


async def increment(client: AsyncClient) -> int:
    """One more; returns the new count."""
    while True:
        item = await client.kv.get(KEY)
        count = int(item.value) + 1 if item else 1
        try:
            await client.kv.put(KEY, str(count).encode(), expect=item.version if item else 0)
        except StaleVersion:
            continue
        return count


async def visit(endpoints: str) -> None:
    """A client of its own, as if it were a process of its own."""
    async with AsyncClient(endpoints) as client:
        for _ in range(VISITS):
            await increment(client)


async def run(endpoints: str) -> None:
    """All clients at once, then what the others would read."""
    await asyncio.gather(*(visit(endpoints) for _ in range(CLIENTS)))
    async with AsyncClient(endpoints) as client:
        item = await client.kv.get(KEY)
        print(f"visits: {item.value.decode() if item else 'none'}")


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
