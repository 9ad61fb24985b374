"""Flexible job shops in the text format of Brandimarte: every operation of a job, in its order, on one of
several machines.

The first line has the numbers of jobs and machines, and perhaps a third that means nothing here; then a line
per job: the number of its operations and, for each, the number of choices and so many pairs of machine and
time. Machines are counted from 0 or from 1; a file that names the number of machines counts from 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

BEST_KNOWN: Final[Mapping[str, int]] = {
    "mk01": 40,
    "mk02": 26,
    "mk03": 204,
    "mk04": 60,
    "mk05": 172,
    "mk06": 57,
}
"""The shortest makespan by name of the file, where it is known to us."""

Operation = Mapping[int, int]
"""Its time by machine that can do it."""


class JobShop(msgspec.Struct, frozen=True):
    """Machines are counted from 0."""

    name: str
    machines: int
    jobs: list[list[Operation]]


class Slot(NamedTuple):
    """Where and when an operation is done."""

    machine: int
    start: float
    finish: float


Plan = Sequence[Sequence[Slot]]
"""By job, its operations in their order."""


def read_folder(folder: Path) -> list[JobShop]:
    """Every `*.txt` file of the folder, by name. Raises ValueError, OSError."""
    return [read(path.read_text(encoding="utf-8"), path.stem) for path in sorted(folder.glob("*.txt"))]


def read(text: str, name: str) -> JobShop:
    """Raises ValueError, with the job, where it is not of this format."""
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or len(lines[0]) < 2:
        raise ValueError(f"{name}: the first line must have the numbers of jobs and of machines")
    jobs, machines = int(lines[0][0]), int(lines[0][1])
    if len(lines) != jobs + 1:
        raise ValueError(f"{name}: {len(lines) - 1} lines of jobs, and the first line says {jobs}")
    counted = [_job([int(word) for word in line], f"{name}, job {at}") for at, line in enumerate(lines[1:])]
    named = {machine for job in counted for operation in job for machine in operation}
    first = 1 if machines in named else 0
    if outside := sorted(machine for machine in named if not first <= machine < first + machines):
        raise ValueError(f"{name}: there are {machines} machines from {first} on, and it names {outside}")
    shifted: list[list[Operation]] = [
        [{machine - first: time for machine, time in operation.items()} for operation in job]
        for job in counted
    ]
    return JobShop(name, machines, shifted)


def makespan(plan: Plan) -> float:
    """When the last operation ends."""
    return max((slot.finish for job in plan for slot in job), default=0.0)


def violations(shop: JobShop, plan: Plan) -> list[str]:
    """What is wrong with a plan, empty if nothing is. Times of these files are whole: nothing is rounded."""
    if [len(job) for job in plan] != [len(job) for job in shop.jobs]:
        return ["the plan does not have every operation once"]
    return [*_of_jobs(shop, plan), *_of_machines(plan)]


def _job(numbers: list[int], place: str) -> list[dict[int, int]]:
    rest = iter(numbers[1:])
    try:
        job = [{next(rest): next(rest) for _ in range(next(rest))} for _ in range(numbers[0])]
    except StopIteration as error:
        raise ValueError(f"{place}: the line ends before its {numbers[0]} operations do") from error
    if left := list(rest):
        raise ValueError(f"{place}: {len(left)} numbers follow its {numbers[0]} operations")
    if not all(job) or any(time < 0 for operation in job for time in operation.values()):
        raise ValueError(f"{place}: every operation needs a machine, and a time that is not negative")
    return job


def _of_jobs(shop: JobShop, plan: Plan) -> Iterator[str]:
    for at, (job, slots) in enumerate(zip(shop.jobs, plan, strict=True)):
        free = 0.0
        for number, (operation, slot) in enumerate(zip(job, slots, strict=True)):
            where = f"operation {number} of job {at}"
            if slot.machine not in operation:
                yield f"{where} is on machine {slot.machine}, which cannot do it"
            elif slot.finish - slot.start != operation[slot.machine]:
                yield f"{where} takes {operation[slot.machine]}, and is planned {slot.start} .. {slot.finish}"
            if slot.start < free:
                yield f"{where} starts at {slot.start}, before {free}, when the job is free"
            free = slot.finish


def _of_machines(plan: Plan) -> Iterator[str]:
    slots = sorted(slot for job in plan for slot in job)
    for earlier, later in itertools.pairwise(slots):
        if earlier.machine == later.machine and later.start < earlier.finish:
            yield f"machine {later.machine} is taken until {earlier.finish}, and again from {later.start}"
