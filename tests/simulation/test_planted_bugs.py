"""The simulator finds bugs: each that is planted breaks a promise within a few seeds, and taken out again
breaks none (A1-A5, the simulator's own promises)."""

from __future__ import annotations

import pytest

from chaos.sim.bugs import BUGS
from chaos.sim.plan import KINDS, draw
from chaos.sim.planted import hunt, planted
from chaos.sim.run import run

SEEDS = range(1, 41)
"""Each bug must be found by one of these: most are by the first, but which it is changes with the product."""


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    assert hunt(BUGS[name], SEEDS, BUGS[name].kinds) is not None


def test_the_faults_thrown_at_a_bug_are_among_those_of_every_world() -> None:
    assert {kind for bug in BUGS.values() for kind in bug.kinds} <= KINDS.keys()


def test_what_was_planted_is_taken_out_again() -> None:
    def pieces() -> list[object]:
        return [
            owner[name] if isinstance(owner, dict) else vars(owner)[name]
            for bug in BUGS.values()
            for owner, name, _ in bug.swaps
        ]

    before = pieces()
    for bug in BUGS.values():
        with planted(bug):
            assert pieces() != before
    assert pieces() == before
    assert run(draw(7)).violations == []
