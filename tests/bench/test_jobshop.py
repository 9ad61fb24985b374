"""Flexible job shops: the format of Brandimarte, and what a plan must keep to."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.placement.jobshop import BEST_KNOWN, JobShop, Slot, makespan, read, read_folder, violations

TEXT = """2 2 1.5
2 2 0 5 1 4 1 0 3
1 1 1 6
"""
SHOP = JobShop("small", 2, [[{0: 5, 1: 4}, {0: 3}], [{1: 6}]])
GOOD = [[Slot(0, 0, 5), Slot(0, 5, 8)], [Slot(1, 0, 6)]]


def test_operations_have_their_machines_and_times() -> None:
    assert read(TEXT, "small") == SHOP


def test_machines_may_be_counted_from_one() -> None:
    assert read("2 2\n2 2 1 5 2 4 1 1 3\n1 1 2 6\n", "small") == SHOP


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the first line"),
        ("2\n", "the first line"),
        ("2 2\n1 1 0 5\n", "1 lines of jobs, and the first line says 2"),
        ("1 2\n2 1 0 5\n", "job 0: the line ends before its 2 operations"),
        ("1 2\n1 2 0 5 1\n", "job 0: the line ends before its 1 operations"),
        ("1 2\n1 1 0 5 7\n", "job 0: 1 numbers follow"),
        ("1 2\n1 0\n", "every operation needs a machine"),
        ("1 2\n1 1 0 -5\n", "not negative"),
        ("1 2\n1 1 3 5\n", "there are 2 machines from 0 on"),
        ("1 2\n1 2 0 5 2 5\n", "there are 2 machines from 1 on"),
        ("1 2\none\n", "invalid literal"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read(text, "small")


def test_a_plan_that_can_be_is_found_good() -> None:
    assert violations(SHOP, GOOD) == []
    assert makespan(GOOD) == 8


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        ([GOOD[0]], "every operation once"),
        ([[Slot(0, 0, 5)], GOOD[1]], "every operation once"),
        ([GOOD[0], [Slot(0, 8, 14)]], "on machine 0, which cannot do it"),
        ([[Slot(0, 0, 4), Slot(0, 5, 8)], GOOD[1]], "takes 5, and is planned 0 .. 4"),
        ([[Slot(1, 6, 10), Slot(0, 9, 12)], GOOD[1]], "starts at 9, before 10"),
        ([[Slot(0, -1, 4), Slot(0, 5, 8)], GOOD[1]], "starts at -1, before 0"),
        ([[Slot(1, 5, 9), Slot(0, 9, 12)], GOOD[1]], "machine 1 is taken until 6, and again from 5"),
    ],
)
def test_what_is_wrong_with_a_plan_is_found(plan: list[list[Slot]], complaint: str) -> None:
    found = violations(SHOP, plan)
    assert any(complaint in line for line in found), found


def test_the_published_shops_are_read(data: Path) -> None:
    shops = read_folder(data / "fjsp")
    assert {shop.name for shop in shops} == BEST_KNOWN.keys()
    assert [(len(shop.jobs), shop.machines) for shop in shops] == [
        (10, 6),
        (10, 6),
        (15, 8),
        (15, 8),
        (15, 4),
        (10, 10),
    ]
    assert [sum(map(len, shop.jobs)) for shop in shops] == [55, 58, 150, 90, 106, 150]
    # No machine can do more than all of its time.
    for shop in shops:
        least = sum(min(operation.values()) for job in shop.jobs for operation in job)
        assert BEST_KNOWN[shop.name] * shop.machines >= least
