"""No read holds the event loop up for long, however much there is to look through or to read: a leader that
is held up loses its lead (A1)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from coordinator.core.commands import CancelDag, PurgeDags, SweepDag
from coordinator.core.model import DagRecord, DagState, TaskState
from coordinator.replica import queries
from coordinator.replica.applier import Applier
from coordinator.replica.queries import Queries
from tests.replica.conftest import Log, MakeApplier

ENDED = 20
AT_ONCE = 5


class Reads(Queries):
    """Reads of an applier's state, which count the DAGs that they look at."""

    def __init__(self, applier: Applier) -> None:
        super().__init__(lambda: applier.state, lambda: applier.store)
        self.looked_at = 0

    def dag_record(self, dag_id: str) -> tuple[DagRecord, list[int]]:
        """One more."""
        self.looked_at += 1
        return super().dag_record(dag_id)

    def all_dags(self, states: set[DagState], page_size: int) -> tuple[list[str], int]:
        """The ids on all pages, and the most DAGs that were looked at for one."""
        found: list[str] = []
        most, token = 0, ""
        while True:
            before = self.looked_at
            page, token = self.dags("", states, token, page_size)
            most = max(most, self.looked_at - before)
            found += [record.header.dag_id for record, _ in page]
            if not token:
                return found, most


@pytest.fixture
def reads(log: Log, make_applier: MakeApplier, monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Of two DAGs that run and twenty that have ended, where a page looks at five DAGs or seven tasks."""
    monkeypatch.setattr(queries, "_DAGS_LOOKED_AT", AT_ONCE)
    monkeypatch.setattr(queries, "_TASKS_LOOKED_AT", 7)
    applier = make_applier("a")
    for at in range(ENDED):
        applier.apply([log.chain(f"ended-{at}"), log.add(CancelDag(f"cancel-{at}", f"ended-{at}"))])
    applier.apply([log.chain("old", 30), log.chain("new", 30)])
    return Reads(applier)


@pytest.mark.parametrize("page_size", [1, 3, AT_ONCE])
def test_a_page_of_few_dags_looks_at_few(reads: Reads, page_size: int) -> None:
    found, most = reads.all_dags({DagState.RUNNING}, page_size)
    assert found == ["new", "old"]
    assert most <= AT_ONCE


@pytest.mark.parametrize("page_size", [1, 4, 7, 100])
def test_pages_together_hold_every_dag_once_newest_first(reads: Reads, page_size: int) -> None:
    ended = [f"ended-{at}" for at in reversed(range(ENDED))]
    assert reads.all_dags(set(), page_size)[0] == ["new", "old", *ended]
    assert reads.all_dags({DagState.CANCELLED}, page_size)[0] == ended


@pytest.mark.parametrize("page_size", [1, 4, 7, 100])
@pytest.mark.parametrize(
    ("states", "matches"),
    [
        (set(), lambda at: True),
        ({TaskState.READY}, lambda at: at == 0),
        ({TaskState.COMPLETED}, lambda at: False),
    ],
)
async def test_pages_of_tasks_hold_every_match_once(
    reads: Reads, page_size: int, states: set[int], matches: Callable[[int], bool]
) -> None:
    found: list[str] = []
    token, pages = "", 0
    while True:
        _, page, token = await reads.tasks("new", states, token, page_size)
        found += [task.id for task in page]
        pages += 1
        if not token:
            break
    assert found == [f"t{at}" for at in range(30) if matches(at)]
    assert pages >= 30 // max(page_size, 7)


LARGE = 20_000
STEPS = 10
"""Less than there are blocks and thousands of tasks in a DAG that large."""


def end_a_large_dag(log: Log, applier: Applier) -> Queries:
    """Reads of a state with one finished DAG."""
    applier.apply([log.chain("large", LARGE), log.add(CancelDag("cancel", "large"))])
    while (dag := applier.state.dag("large")) is not None:
        applier.apply([log.add(SweepDag(dag.record.number))])
    return Queries(lambda: applier.state, lambda: applier.store)


async def test_a_large_finished_dag_is_read_between_other_work(log: Log, make_applier: MakeApplier) -> None:
    reads = end_a_large_dag(log, make_applier("a"))
    reading = asyncio.create_task(reads.dag("large"))
    turns = 0
    while not reading.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns >= STEPS
    dag = await reading
    assert [task.state for task in dag.tasks] == [TaskState.CANCELLED] * LARGE
    assert dag.tasks[-1].depends == (LARGE - 2,)


async def test_readers_of_one_dag_share_it(log: Log, make_applier: MakeApplier) -> None:
    reads = end_a_large_dag(log, make_applier("a"))
    first, second = await asyncio.gather(reads.dag("large"), reads.dag("large"))
    assert first is second


async def test_a_dag_that_is_dropped_while_it_is_read_is_read_to_its_end(
    log: Log, make_applier: MakeApplier
) -> None:
    applier = make_applier("a")
    reads = end_a_large_dag(log, applier)
    reading = asyncio.create_task(reads.dag("large"))
    await asyncio.sleep(0)  # It has read the blocks, and none of the tasks' records.
    applier.apply([log.add(PurgeDags(["large"]))])
    dag = await reading
    assert [task.state for task in dag.tasks] == [TaskState.CANCELLED] * LARGE


async def test_a_reader_that_goes_away_leaves_the_next_to_read(log: Log, make_applier: MakeApplier) -> None:
    reads = end_a_large_dag(log, make_applier("a"))
    impatient, patient = (asyncio.create_task(reads.dag("large")) for _ in range(2))
    for _ in range(3):
        await asyncio.sleep(0)
    impatient.cancel()
    assert len((await patient).tasks) == LARGE
    assert impatient.cancelled()
