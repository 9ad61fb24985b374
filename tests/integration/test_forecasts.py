"""Forecasts of a real cluster: made from what real agents report, read through every face, and gone on with
by another leader, or after a restart of all nodes (D5, D6, A5)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from agent_sdk import Client, errors
from coordinator.cli.agent_spec import alike
from coordinator.cli.client import main
from coordinator.cli.exits import Exit
from tests.integration.conftest import eventually_sync

if TYPE_CHECKING:
    from coordinator.cli.local_cluster import LocalCluster
    from tests.integration.conftest import StartCluster

QUICK = {"forecast.short_step_s": "1", "forecast.medium_step_s": "1", "forecast.long_step_s": "1"}


@pytest.fixture
def quick(start_cluster: StartCluster) -> LocalCluster:
    """Three nodes that forecast in steps of a second, and an agent."""
    return start_cluster(nodes=3, agents=alike(1, 2), settings=QUICK)


def forecasts(cluster: LocalCluster, *arguments: str) -> list[dict[str, Any]]:
    """What `coordctl forecast` prints."""
    command = ["--endpoints", ",".join(cluster.endpoints), "--output", "json", "forecast", *arguments]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == Exit.OK, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["forecasts"]
    return found


def scored(cluster: LocalCluster, at_least: int) -> Callable[[], list[dict[str, Any]] | None]:
    """Finds the short forecasts of the agent's memory, once the nearest has as many outcomes."""

    def look() -> list[dict[str, Any]] | None:
        found = forecasts(cluster, "--agent", "a1", "--series", "memory", "--horizon", "short")
        return found if found and found[0]["scored"] >= at_least else None

    return look


def test_forecasts_outlive_their_leader(quick: LocalCluster) -> None:
    """D6, A5: what was said and how right it was is known to the next leader."""
    before = eventually_sync(scored(quick, 3), "forecasts have outcomes")
    assert [one["ahead_s"] for one in before] == [6, 12, 30, 60]
    for one in before:
        assert 0 <= one["low"] <= one["forecast"] <= one["high"] <= 1
        assert one["outcomes"] or not one["scored"]
    with Client(quick.endpoints) as client:
        former = client.cluster_status().leader
        assert client.members.transfer() != former
    count = before[0]["scored"]
    after = eventually_sync(scored(quick, count), "the new leader has taken up the past")
    assert after[0]["scored"] < count + 60
    every = forecasts(quick)
    assert {(one["agent"], one["series"]) for one in every} == {
        ("", "busy"), ("", "waiting"), ("a1", "cpu"), ("a1", "load"), ("a1", "memory"),
    }  # fmt: skip
    assert {one["horizon"] for one in every} == {"short", "medium", "long"}


def test_pages_are_bounded_and_complete(quick: LocalCluster) -> None:
    """G1: as many as are asked for, of one series at least."""
    eventually_sync(scored(quick, 1), "there are forecasts")
    with Client(quick.endpoints) as client:
        assert list(client.forecasts("nobody")) == []
        assert {one.horizon for one in client.forecasts("", horizon="medium")} == {"medium"}
        for wrong in ({"series": "mood"}, {"horizon": "tomorrow"}):
            with pytest.raises(errors.InvalidRequest, match="there are"):
                list(client.forecasts(**wrong))
