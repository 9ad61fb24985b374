"""A family and a policy of another distribution, in real nodes: those of `docs/plugins.md` (B2, E1, E3)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from agent_sdk import AsyncClient, Dag, Requires, Task
from agent_sdk.errors import InvalidRequest
from coordinator.cli.agent_spec import AgentSpec
from coordinator.cli.local_cluster import LocalCluster
from tests.families.distributions import install
from tests.integration.conftest import WAIT_S, StartCluster, eventually, serve

GUIDE = Path("docs/plugins.md")
CRANE = Requires(capabilities={"crane": 5})


def install_example(folder: Path) -> None:
    """The distribution that the guide shows."""
    blocks = dict(re.findall(r"```(python|toml)\n(.*?)```", GUIDE.read_text(), re.DOTALL))
    project = tomllib.loads(blocks["toml"])["project"]
    install(folder, project["name"], blocks["python"], project["entry-points"])


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which processes that are started from here on load plug-ins."""
    folder = tmp_path / "installed"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def restart_after_move(cluster: LocalCluster, folder: Path, to: Path) -> None:
    """The one node comes back, and finds the plug-ins no more, or again."""
    (node_id,) = cluster.nodes
    cluster.stop_node(node_id)
    folder.rename(to)
    cluster.restart_node(node_id)


async def test_tasks_of_a_plug_in_go_where_it_says_by_its_policy(
    plugins: Path, start_cluster: StartCluster
) -> None:
    install_example(plugins)
    crane = {"crane": 9}
    agents = [
        AgentSpec(id="strong", slots=8, capabilities=crane),
        AgentSpec(id="licensed", slots=8, capabilities=crane, permissions=("lift",)),
        AgentSpec(id="rigged", slots=8, capabilities=crane, permissions=("lift",), data=("rigging",)),
    ]
    cluster = start_cluster(nodes=1, agents=agents, settings={"scheduling.policy": "calm"})
    async with AsyncClient(cluster.endpoints) as client:
        lifts = [Task(f"t{at}", "noop", family="lift", requires=CRANE) for at in range(5)]
        dag_id = await client.submit(Dag(tasks=lifts))
        assert (await client.wait(dag_id, WAIT_S)).state == "COMPLETED"
        held_by = {attempt.agent async for task in client.tasks(dag_id) for attempt in task.attempts}
        assert held_by == {"rigged"}

        flawed = Dag().add(Task("t", "fail", family="lift", requires=CRANE))
        dag_id = await client.submit(flawed)
        assert (await client.wait(dag_id, WAIT_S)).state == "FAILED"
        assert len((await client.task(dag_id, "t")).attempts) == 3, "as the family says"

        heavy = Requires(capabilities={"crane": 99})
        dag_id = await client.submit(Dag().add(Task("t", "noop", family="lift", requires=heavy)))
        refusals = (await client.explain(dag_id, "t")).refusals
        assert {one.reason: one.agents for one in refusals} == {"capability": 3, "family": 1}

        with pytest.raises(InvalidRequest, match="family lift, and it needs no crane"):
            await client.submit(Dag().add(Task("t", "noop", family="lift")))
        with pytest.raises(InvalidRequest, match=r"no task family 'hoist': give one of model, .*, lift"):
            await client.submit(Dag().add(Task("t", "noop", family="hoist")))


async def test_a_leader_without_the_plug_in_gives_its_tasks_to_nobody_until_it_has_it(
    plugins: Path, start_cluster: StartCluster
) -> None:
    install_example(plugins)
    agents = [AgentSpec(id="licensed", capabilities={"crane": 9}, permissions=("lift",))]
    cluster = start_cluster(nodes=1, agents=agents)
    away = plugins.with_name("away")
    async with AsyncClient(cluster.endpoints) as client:
        heavy = Requires(capabilities={"crane": 5}, labels={"not": "yet"})
        dag_id = await client.submit(Dag().add(Task("t", "noop", family="lift", requires=heavy)))
        restart_after_move(cluster, plugins, away)

        async def unknown() -> bool:
            refusals = {one.reason: one.detail for one in (await client.explain(dag_id, "t")).refusals}
            return "not installed on the leader" in refusals.get("family", "")

        await eventually(unknown, "the leader says that it does not know the family")
        restart_after_move(cluster, away, plugins)

        async def known() -> bool:
            found = await client.explain(dag_id, "t")
            return [one.reason for one in found.refusals] == ["label"]

        await eventually(known, "the label alone is in the way")


def test_a_node_with_a_broken_plug_in_does_not_start(plugins: Path, tmp_path: Path) -> None:
    install(plugins, "yard", "1 / 0", {"quorumflow.families": {"lift": "yard:LIFT"}})
    code, said = serve(tmp_path / "data")
    assert (code, said["reason"]) == (2, "PLUGIN_FAILED")
    assert "'lift' in quorumflow.families of yard 1.0 (yard:LIFT): it cannot be loaded" in said["error"]
    assert not (tmp_path / "data").exists()


def test_a_node_with_an_unknown_policy_does_not_start(plugins: Path, tmp_path: Path) -> None:
    install_example(plugins)
    code, said = serve(tmp_path / "data", **{"scheduling.policy": "clam"})
    assert (code, said["reason"]) == (2, "CONFIG")
    assert said["error"].startswith("scheduling.policy is 'clam'; allowed: balanced, fast,")
    assert said["error"].endswith(", calm")
