"""Many seeds, in as many processes as there are to use, and what came of them together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing.connection import Connection

from chaos.sim.plan import KINDS, draw
from chaos.sim.run import Result, run


@dataclass
class Totals:
    """Over all results so far. `faults` counts by kind what was brought about, `events` what followed."""

    seeds: int = 0
    virtual_s: float = 0.0
    began_s: float = field(default_factory=time.monotonic)
    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Take a result in."""
        self.seeds += 1
        self.virtual_s += result.virtual_s
        self.faults.update(result.faults)
        self.events.update(result.events)
        if result.violations:
            self.failed.append(result.plan.seed)

    @property
    def seeds_per_s(self) -> float:
        """Of real time."""
        return self.seeds / max(time.monotonic() - self.began_s, 1e-9)

    @property
    def missing(self) -> list[str]:
        """Kinds of faults that no seed has brought about."""
        return [kind for kind in KINDS if not self.faults[kind]]


def run_all(seeds: Iterable[int], jobs: int, totals: Totals, on_result: Callable[[Result], None]) -> None:
    """Run the seeds, which may be endless; each result is added to `totals`, then given to `on_result`."""
    for result in _results(seeds, jobs):
        totals.add(result)
        on_result(result)


def run_seed(seed: int) -> Result:
    """The world of one seed."""
    return run(draw(seed))


def _results(seeds: Iterable[int], jobs: int) -> Iterator[Result]:
    if jobs == 1:
        yield from map(run_seed, seeds)
        return
    # The trace does not depend on it; this way nothing else in a worker does either.
    os.environ["PYTHONHASHSEED"] = "0"
    context = multiprocessing.get_context("spawn")
    waiting = iter(seeds)
    with ProcessPoolExecutor(jobs, context) as pool:
        running: set[Future[Result]] = {pool.submit(_run_apart, seed) for seed in islice(waiting, 2 * jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_run_apart, seed) for seed in islice(waiting, len(done))}
            for future in done:
                yield future.result()


def _run_apart(seed: int) -> Result:
    """The world of one seed in a process that ends with it: nothing that it leaves behind adds up, and to
    end a process takes less than to sweep up a world."""
    context = multiprocessing.get_context("fork")
    results, sends = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(seed, sends))
    process.start()
    sends.close()
    try:
        result: Result = results.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"the process of seed {seed} ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    return result


def _send(seed: int, sends: Connection) -> None:
    # Whoever stops a run at the keyboard stops the worker, which ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sends.send(run(draw(seed), sweeps=False))
