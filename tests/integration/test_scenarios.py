"""The parts of the scenarios of J5 that run on real clusters: a robot and a node that are killed at work."""

from __future__ import annotations

from examples.scenarios import manufacturing, science


def test_another_robot_takes_over_what_a_killed_one_had() -> None:
    decided_ms, recovered_s = manufacturing.on_a_cluster()
    assert decided_ms >= 0
    assert recovered_s > 0


def test_a_computation_goes_on_from_its_checkpoint_on_another_node() -> None:
    kept, again_s = science.on_a_cluster()
    assert 0 < kept <= 100
    assert again_s >= 0
