"""A seed that fails is told with a small part of its schedule that fails still, within bounded time, and that
part can be run again (A1-A5, the simulator's own promises)."""

from __future__ import annotations

import io
import re

from click.testing import CliRunner
from rich.console import Console

from chaos.sim.__main__ import main
from chaos.sim.bugs import BUGS
from chaos.sim.failures import Failures
from chaos.sim.plan import draw
from chaos.sim.planted import planted
from chaos.sim.reduction import only, reduce
from chaos.sim.run import Result, run

FORGETFUL = BUGS["forget a request id"]
"""One storm of retries is enough to find it."""

PLENTY_S = 600.0


def test_one_fault_is_left_where_one_is_enough() -> None:
    with planted(FORGETFUL):
        failed = _failed()
        reduced = reduce(failed, PLENTY_S)
        again = run(only(failed.plan, reduced.numbers))
    assert len(failed.plan.faults) > len(reduced.numbers) == 1
    assert again.violations == reduced.result.violations != []
    assert again.digest == reduced.result.digest


def test_without_time_the_whole_schedule_is_told() -> None:
    with planted(FORGETFUL):
        failed = _failed()
        numbers, result = reduce(failed, 0.0)
    assert numbers == tuple(range(len(failed.plan.faults)))
    assert result is failed


def test_a_failure_is_told_with_what_it_takes_to_see_it_again() -> None:
    console = Console(record=True, width=300, file=io.StringIO())
    with planted(FORGETFUL):
        failed = _failed()
        Failures(console, PLENTY_S).tell(failed)
    told = console.export_text()
    assert f"seed {failed.plan.seed} FAILED" in told
    assert "exists already" in told
    assert "the last 40 events" in told
    found = re.search(r"--seed (\d+) --faults '(\d+)'", told)
    assert found is not None
    assert str(failed.plan.faults[int(found[2])]) in told


def test_a_part_of_a_schedule_is_run_alone() -> None:
    done = CliRunner().invoke(main, ["--seed", "7", "--faults", "0"])
    assert done.exit_code == 0
    assert len([line for line in done.output.splitlines() if " fault " in line]) <= 1
    refused = CliRunner().invoke(main, ["--seed", "7", "--faults", "999"])
    assert refused.exit_code == 2
    assert "beyond the schedule" in refused.output


def _failed() -> Result:
    for seed in range(1, 20):
        result = run(draw(seed, FORGETFUL.kinds))
        if result.violations:
            return result
    raise AssertionError("no seed found the bug")
