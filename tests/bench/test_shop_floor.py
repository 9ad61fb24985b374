"""Job shops by the real scheduler: plans that can be, whatever it knows of the machines."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bench.placement.__main__ import main
from bench.placement.jobshop import JobShop, makespan, read_folder, violations
from bench.placement.shop_floor import cluster_of, plan_of, problem_of, run_shop
from coordinator.core.kinds import Kind
from coordinator.core.model import TaskFamily

SHOP = JobShop("small", 2, [[{0: 5, 1: 6}, {0: 3}], [{1: 6, 0: 7}], [{1: 0}]])


def test_operations_of_a_job_follow_each_other_and_those_of_others_do_not() -> None:
    problem = problem_of(SHOP)
    assert [tuple(parent for parent, _ in edges) for edges in problem.before] == [(), (0,), (), ()]
    assert problem.costs.tolist() == [[5, 6], [3, np.inf], [7, 6], [np.inf, 0]]


def test_a_plan_keeps_to_the_machines_and_to_the_order_of_jobs() -> None:
    plan = plan_of(SHOP)
    assert violations(SHOP, plan) == []
    assert makespan(plan) == 8
    assert run_shop(SHOP).ratio is None


def test_what_each_machine_takes_for_each_operation_is_known_before_the_run() -> None:
    jobs = [[{0: 2, 1: 9, 2: 5}, {1: 3, 2: 8}], [{0: 9, 1: 2}, {0: 4, 1: 4, 2: 4}, {0: 1, 2: 6}]]
    shop = JobShop("odd", 3, jobs)
    estimates = cluster_of(shop).snapshot.estimates
    for row, operation in enumerate(operation for job in jobs for operation in job):
        for machine, seconds in operation.items():
            kind = Kind(f"operation-{row:06}", "", TaskFamily.COMPUTE, True)
            work_s = estimates.work_s(kind, 1, 1_000 * min(operation.values()))
            took = work_s / math.exp(estimates.log_pace(kind, machine)[0])
            assert took == pytest.approx(seconds, rel=0.25), (row, machine)
    assert makespan(plan_of(shop)) <= 11


def test_the_report_is_printed_and_written(tmp_path: Path) -> None:
    (tmp_path / "mk01.txt").write_text("2 2\n1 2 1 5 2 4\n1 1 1 6\n")
    file = tmp_path / "shops.json"
    given = ["jobshop", "--instances", str(tmp_path), "--json", str(file)]
    result = CliRunner().invoke(main, given, catch_exceptions=False)
    assert result.exit_code == 0
    report = json.loads(file.read_text())
    assert report["shops"][0]["makespan"] == 6
    assert report["ratio"] == pytest.approx(6 / 40)
    (tmp_path / "other.txt").write_text("what\n")
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 1
    assert "other: the first line" in result.output


def test_published_shops_are_planned_within_half_of_the_best_known(data: Path) -> None:
    for shop in read_folder(data / "fjsp")[:3]:
        ratio = run_shop(shop).ratio
        assert ratio is not None
        assert 1.0 <= ratio <= 1.5
