"""What runs on a client's machine: the real client, which submits DAGs of drawn shapes, and sometimes asks,
waits, cancels, or asks the same thing many times at once; and beside that uses the key-value space."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from agent_sdk import (
    AsyncClient,
    Dag,
    ModelNeeds,
    QuorumflowError,
    Requires,
    Resources,
    Retry,
    Task,
    ToolNeeds,
)
from agent_sdk.errors import (
    DeadlineExceeded,
    NotFound,
    OutOfSpace,
    QueueFull,
    QuotaExceeded,
    WrongState,
)
from chaos.checking.workloads import QueueWorkload, RegisterWorkload
from chaos.sim.machine import Machine
from chaos.sim.network import Network
from chaos.sim.sdk_surroundings import sdk_surroundings
from chaos.sim.witness import Witness

NAMESPACES: Final = ("default", "blue", "green")
POLICIES: Final = ("", "fast", "green")
TOOLS: Final = ("hammer", "saw")
MODELS: Final = ("small", "large")

_STORM_CALLS: Final = 12
_KEY_USES: Final = 4
"""Operations on keys for each DAG."""
_LARGE: Final = 510
"""Tasks of a DAG that ends in more than one step, and may come in parts."""
_BROKEN_OFF: Final = 0.4
"""The share of these whose submission is broken off."""
_LINGERING: Final = "plod"
_LASTS_S: Final = 2.0
_LINGERS_S: Final = 6.0
"""What the first attempt of a task takes that is expected to take `_LASTS_S`, as any other attempt does. Few
enough, of one task of a DAG, to be over well before all has to have ended."""


class ClientProgram:
    """Submits a DAG about every `pause_s` until `rest`."""

    def __init__(
        self, machine: Machine, network: Network, witness: Witness, endpoints: list[str], *, pause_s: float
    ) -> None:
        self.machine = machine
        self.busy = 0
        """Submissions without an answer yet, and uses of the key-value space that go on."""
        self._network = network
        self._witness = witness
        self._endpoints = endpoints
        self._pause_s = pause_s
        self._rng = random.Random(machine.rng.random())
        self._resting = False
        self._submitted = 0
        self._client: AsyncClient | None = None
        machine.on_death.append(network.died)

    def boot(self) -> None:
        """Start the client's process."""
        self.machine.boot(self._run)

    def rest(self) -> None:
        """Submit nothing more."""
        self._resting = True

    def storm(self) -> None:
        """Submit one DAG many times at once, all under the same request id."""
        process = self.machine.process
        if process is not None and self._client is not None:
            dag, request_id = self._draw()
            client = self._client
            for _ in range(_STORM_CALLS):
                process.post(lambda: process.create_task(self._submit(client, dag, request_id)))

    async def _run(self) -> None:
        process = self.machine.process
        assert process is not None
        surroundings = sdk_surroundings(process, self._network)
        async with AsyncClient(
            self._endpoints, timeout_s=self._rng.uniform(2.0, 8.0), surroundings=surroundings
        ) as client:
            self._client = client
            for workload in (RegisterWorkload, QueueWorkload):
                work = workload(client.kv, self._witness.history, self.machine.name, self._rng)
                process.create_task(self._use_keys(work))
            while not self._resting:
                dag, request_id = self._draw()
                process.create_task(self._submit(client, dag, request_id))
                await asyncio.sleep(self._rng.expovariate(1 / self._pause_s))
            await asyncio.Event().wait()

    async def _use_keys(self, work: RegisterWorkload | QueueWorkload) -> None:
        self.busy += 1
        while not self._resting:
            await work.step()
            await asyncio.sleep(self._rng.expovariate(_KEY_USES / self._pause_s))
        await work.finish()
        self.busy -= 1

    async def _submit(self, client: AsyncClient, dag: Dag, request_id: str) -> None:
        self.busy += 1
        try:
            async with asyncio.timeout(self._patience(dag)):
                dag_id = await client.submit(dag, request_id=request_id)
        except (DeadlineExceeded, QueueFull, TimeoutError):
            self.machine.trace.note(self.machine.name, f"does not know of {dag.dag_id}")
            return
        except (OutOfSpace, QuotaExceeded) as error:
            self.machine.trace.note(self.machine.name, f"is told {error.reason} for {dag.dag_id}")
            return
        except WrongState as error:
            # What came of it by then was dropped, since a clock has jumped or its last part came too late.
            if len(dag.tasks) < _LARGE:
                self._witness.break_promise(f"{self.machine.name}: {dag.dag_id} was refused: {error!r}")
            return
        except QuorumflowError as error:
            self._witness.break_promise(f"{self.machine.name}: {dag.dag_id} was refused: {error!r}")
            return
        finally:
            self.busy -= 1
        self._witness.told_recorded(request_id, dag, dag_id)
        self.machine.trace.note(self.machine.name, f"was told that {dag_id} is recorded")
        try:
            await self._follow(client, dag, request_id)
        except DeadlineExceeded:
            return
        except NotFound:
            if not self._witness.may_be_forgotten(dag_id):
                self._witness.break_promise(f"{dag_id} was recorded, and is not found")
        except QuorumflowError as error:
            self.machine.trace.note(self.machine.name, f"gets no answer about {dag_id}: {error.reason}")

    def _patience(self, dag: Dag) -> float | None:
        """After how many seconds a submission is broken off; None: it is not."""
        if len(dag.tasks) < _LARGE or self._rng.random() > _BROKEN_OFF:
            return None
        return self._rng.uniform(0.0, 0.03)

    async def _follow(self, client: AsyncClient, dag: Dag, request_id: str) -> None:
        what = self._rng.random()
        if what < 0.15:
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))
            await client.cancel(dag.dag_id, "enough")
        elif what < 0.25:
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))
            await client.cancel_task(dag.dag_id, dag.tasks[0].id, "enough")
        elif what < 0.35:
            await asyncio.sleep(self._rng.uniform(0.0, 0.3))
            await client.reschedule(dag.dag_id, dag.tasks[0].id, "elsewhere")
        elif what < 0.5:
            self._witness.told_status(await client.wait(dag.dag_id, self._rng.uniform(0.5, 10.0)))
        elif what < 0.65:
            # As a client does whose answer was lost.
            ended = await client.run(dag, self._rng.uniform(0.5, 10.0), request_id=request_id)
            self._witness.told_status(ended)
        self._witness.told_status(await client.get(dag.dag_id))

    def _draw(self) -> tuple[Dag, str]:
        """A DAG that the witness knows of, and a request id for it."""
        rng = self._rng
        self._submitted += 1
        name = f"{self.machine.name}-{self._submitted}"
        dag = Dag(
            dag_id=name,
            failure_policy=rng.choice(("continue", "fail_fast")),
            namespace=rng.choice(NAMESPACES),
            policy=rng.choice(("", *POLICIES)),
            priority=rng.choice(("low", "medium", "medium", "high")),
        )
        if rng.random() < 0.03:
            _fill(dag)
        else:
            chain = rng.random() < 0.3
            for at in range(rng.choice((1, 1, 2, 3, 4, 6))):
                known = [task.id for task in dag.tasks]
                before = known[-1:] if chain else rng.sample(known, min(len(known), rng.randint(0, 2)))
                task = _draw_task(rng, f"t{at}", before)
                while task.type == _LINGERING and any(one.type == _LINGERING for one in dag.tasks):
                    task = _draw_task(rng, f"t{at}", before)
                dag.add(task)
        self._witness.submits(dag)
        return dag, f"request-{name}"


def _fill(dag: Dag) -> None:
    """Many tasks, none of which is ever run but the first, on which they depend."""
    dag.add(Task(id="gate", type="work", payload={"seconds": 0.2, "hopeless": True}))
    dag.extend(
        Task(id=f"t{at}", type="work", payload={"seconds": 0.0}, depends_on=["gate"]) for at in range(_LARGE)
    )


def _draw_task(rng: random.Random, task_id: str, before: list[str]) -> Task:
    orders: dict[str, object] = {"seconds": rng.choice((0.0, 0.005, 0.02, 0.1, rng.uniform(0.0, 0.8)))}
    kind = rng.random()
    if kind < 0.1:
        orders["fails"] = rng.randint(1, 2)
    elif kind < 0.13:
        orders["hopeless"] = True
    elif kind < 0.2:
        orders["checkpoint"] = True
    elif kind < 0.25:
        orders["spawn"] = 1
    elif kind < 0.29:
        orders |= {"seconds": _LASTS_S, "lingers": _LINGERS_S}
    lingers = "lingers" in orders
    return Task(
        id=task_id,
        type=_LINGERING if lingers else rng.choice(("work", "toil")),
        payload=orders,
        depends_on=before,
        retry=Retry(max_attempts=3, delay_s=rng.choice((0.0, 0.05))),
        timeout_s=None if lingers else rng.choice((None, None, 0.6)),
        requires=_draw_needs(rng),
        priority="urgent" if rng.random() < 0.1 else None,
        expected_s=_LASTS_S if lingers else rng.choice((0.0, 0.0, 0.1)),
        family="compute" if lingers else None,
        preemptible=rng.random() < 0.3,
    )


def _draw_needs(rng: random.Random) -> Requires:
    what = rng.random()
    return Requires(
        resources=Resources(cores=rng.choice((0.0, 0.0, 0.5, 2.5))),
        tool=ToolNeeds(tool=rng.choice(TOOLS)) if what < 0.15 else None,
        model=ModelNeeds(model=rng.choice(MODELS)) if what > 0.85 else None,
    )
