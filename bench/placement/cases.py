"""The runs that a report on quality is made of, each by itself, so that they can share the cores.

All give ratios of a makespan to that of HEFT that knows the real work of every task and the real speed of
every agent, for the same workflow under the same noise.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Final

import msgspec
from msgspec.structs import replace

from bench.placement.baselines import POLICIES, simulate
from bench.placement.execute import execute
from bench.placement.heft import heft
from bench.placement.instances import Instance
from bench.placement.knowledge import History, Knowledge, reality_of, tell
from bench.placement.planners import PLANNERS
from bench.placement.platform import Platform
from bench.placement.schedules import Problem
from bench.placement.virtual import VirtualCluster
from coordinator.scheduling.costs.weights import Policy

OURS: Final = "ours"
REFERENCE: Final = "heft"
STATIC: Final = "static_heft"
"""The plan that HEFT makes of the trace, and that is kept to whatever happens."""

BASELINES: Final[Sequence[str]] = (
    REFERENCE,
    STATIC,
    *(name for name in PLANNERS if name != REFERENCE),
    *POLICIES,
)


class Case(msgspec.Struct, frozen=True):
    """One workflow under the noise of one seed, or without any. With `knowledge`, our scheduler runs it;
    without, every baseline does: they learn nothing, and run alike whatever is known. `lots` are the seeds of
    what some of them leave to chance."""

    instance: Instance
    agents: int
    seed: int | None
    knowledge: Knowledge | None
    policy: Policy
    history: History
    lots: tuple[int, ...]

    @property
    def title(self) -> str:
        """For whoever waits."""
        seed = "" if self.seed is None else f", seed {self.seed}"
        return f"{self.instance.name}, {self.knowledge or 'baselines'}{seed}"

    def like(self, knowledge: Knowledge) -> bool:
        """Whether our scheduler, knowing so much, has a run under the same conditions."""
        if knowledge is Knowledge.NOISY_WARM and not self.history:
            return False
        return (knowledge is Knowledge.EXACT) == (self.seed is None)


class Outcome(msgspec.Struct, frozen=True):
    """Ratios by name of what ran: a single one, or one by lot. `failure` says why there are none."""

    ratios: Mapping[str, list[float]]
    took_s: float
    begun: int = 0
    failure: str = ""


def run_all(cases: Sequence[Case], jobs: int) -> Iterator[tuple[int, Outcome]]:
    """The outcome of each case by its place, as they come. The longest begin first."""
    order = sorted(range(len(cases)), key=lambda at: (cases[at].knowledge is None, -len(cases[at].instance)))
    if jobs == 1:
        yield from ((at, run(cases[at])) for at in order)
        return
    # A fork would take over the threads of numpy in whatever state they are.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(run, cases[at]): at for at in order}
        for future in as_completed(futures):
            yield futures[future], future.result()


def run(case: Case) -> Outcome:
    """One case. What goes wrong in it is its outcome: one workflow must not cost the report on all others."""
    began = time.perf_counter()
    try:
        outcome = _baselines(case) if case.knowledge is None else _ours(case, case.knowledge)
    except Exception as error:
        outcome = Outcome({}, 0.0, failure=f"{type(error).__name__}: {error}")
    return replace(outcome, took_s=time.perf_counter() - began)


def _ours(case: Case, knowledge: Knowledge) -> Outcome:
    platform, instance = Platform.of(case.agents), case.instance
    reality = reality_of(instance, platform, case.seed)
    cluster = VirtualCluster.of(instance, platform, reality, case.policy, stated=knowledge.stated)
    if knowledge is Knowledge.NOISY_WARM:
        tell(cluster.snapshot.estimates, case.history)
    run = cluster.run()
    real = Problem.of(instance, reality.work, reality.speeds, platform.bandwidth)
    return Outcome({OURS: [run.schedule.makespan / heft(real).makespan]}, 0.0, run.begun)


def _baselines(case: Case) -> Outcome:
    platform, instance = Platform.of(case.agents), case.instance
    reality = reality_of(instance, platform, case.seed)
    expected = Problem.of(instance, instance.work, platform.speeds, platform.bandwidth)
    real = Problem.of(instance, reality.work, reality.speeds, platform.bandwidth)
    best = heft(real).makespan
    ratios = {REFERENCE: [1.0]}
    for name, plan in PLANNERS.items():
        title = STATIC if name == REFERENCE else name
        ratios[title] = [execute(plan(expected), real).makespan / best]
    for name, policy in POLICIES.items():
        runs = (
            simulate(real, policy, platform.speeds, f"{instance.name}/{lot}").makespan for lot in case.lots
        )
        ratios[name] = [makespan / best for makespan in runs]
    return Outcome(ratios, 0.0)


def cases_of(
    instances: Iterable[Instance],
    histories: Mapping[str, History],
    *,
    agents: int,
    seeds: Sequence[int],
    policy: Policy,
    only: Sequence[Knowledge],
) -> list[Case]:
    """Every run of a report. Without a history there is no warm run."""
    cases = []
    for instance in instances:
        case = Case(instance, agents, None, None, policy, histories.get(instance.name, {}), tuple(seeds))
        for some in (case, *(replace(case, seed=seed, lots=(seed,)) for seed in seeds)):
            ours = [replace(some, knowledge=knowledge) for knowledge in only if some.like(knowledge)]
            cases += [some, *ours] if ours else []
    return cases
