"""Clusters of real processes: `up` and `down`, kills and restarts, what is left when something goes wrong;
one node alone under `serve`. Answers A1 and A4 (loss of the leader, restart of all) from outside, and G4.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agent_sdk import Client, Dag, Task
from coordinator.cli import client as coordctl
from coordinator.cli import server as coordinator
from coordinator.cli.agent_spec import AgentSpec
from coordinator.cli.local_cluster import LocalCluster
from coordinator.cli.ports import free_ports
from coordinator.errors import NotFound, StartFailed, WrongState

WAIT_S = 30.0


def run(*arguments: str) -> Result:
    """`coordinator` with these arguments."""
    return CliRunner().invoke(coordinator.main, list(arguments))


def listed(folder: Path) -> dict[str, Any]:
    """`cluster.json`."""
    content: dict[str, Any] = json.loads((folder / "cluster.json").read_text())
    return content


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a cluster, which is stopped in the end whatever happened."""
    yield tmp_path / "cluster"
    run("down", "--dir", str(tmp_path / "cluster"), "--grace", "0")


def test_a_cluster_goes_up_works_and_goes_down(folder: Path) -> None:
    up = run("up", "--nodes", "3", "--agents", "2", "--slots", "2", "--dir", str(folder), "--effects")
    assert up.exit_code == 0, up.output
    content = listed(folder)
    assert [sorted(node) for node in content["nodes"]] == [["data_dir", "grpc", "id", "pid", "raft"]] * 3
    assert [agent["id"] for agent in content["agents"]] == ["a1", "a2"]
    endpoints = ",".join(node["grpc"] for node in content["nodes"])
    shown = CliRunner().invoke(
        coordctl.main, ["--endpoints", endpoints, "--output", "json", "cluster", "status"]
    )
    assert json.loads(shown.stdout)["leader"] in {node["id"] for node in content["nodes"]}
    with Client(endpoints) as client:
        dag_id = client.submit(Dag().add(Task(id="t", type="noop")))
        assert client.wait(dag_id, WAIT_S).state == "COMPLETED"
    again = run("up", "--dir", str(folder))
    assert again.exit_code == 5
    assert "down --dir" in again.stderr
    cluster = LocalCluster.attach(folder)
    assert all(cluster.alive(process_id) for process_id in (*cluster.nodes, *cluster.agents))
    assert run("down", "--dir", str(folder)).exit_code == 0
    assert not any(cluster.alive(process_id) for process_id in (*cluster.nodes, *cluster.agents))
    assert sum(cluster.effects(agent_id).read_text().count("\n") for agent_id in cluster.agents) == 2


def test_a_leader_and_an_agent_are_killed_and_come_back(folder: Path) -> None:
    with LocalCluster.start(folder, nodes=3, agents=[AgentSpec(id="a1")]) as cluster:
        first = cluster.leader()
        cluster.kill_node(first)
        assert not cluster.alive(first)
        assert cluster.leader(WAIT_S) != first
        cluster.wait_until_ready(WAIT_S)
        with pytest.raises(WrongState, match="runs already"):
            cluster.restart_agent("a1")
        cluster.restart_node(first)
        cluster.kill_agent("a1")
        cluster.restart_agent("a1")
        cluster.wait_until_ready(WAIT_S)
        assert {node["id"]: node["pid"] for node in listed(folder)["nodes"]} == {
            node.id: node.pid for node in cluster.nodes.values()
        }
        with pytest.raises(NotFound, match="n1, n2, n3, a1"):
            cluster.kill_node("n9")
    assert not any(cluster.alive(process_id) for process_id in ("n1", "n2", "n3", "a1"))


def test_state_is_taken_up_again_until_it_is_discarded(folder: Path) -> None:
    with LocalCluster.start(folder, nodes=1) as cluster, Client(cluster.endpoints) as client:
        client.submit(Dag(dag_id="kept").add(Task(id="t", type="noop")))
    with pytest.raises(WrongState, match="1 nodes, not 3"):
        LocalCluster.start(folder, nodes=3)
    with LocalCluster.start(folder, nodes=1, agents=[AgentSpec(id="a1", simulate=True)]) as cluster:
        with Client(cluster.endpoints) as client:
            assert client.wait("kept", WAIT_S).state == "COMPLETED"
        cluster.stop(keep_data=False)
    assert not (folder / "data").exists()
    with pytest.raises(NotFound, match=r"no cluster\.json"):
        LocalCluster.attach(folder)


def test_a_process_that_ends_is_named_with_its_log_and_the_others_are_stopped(folder: Path) -> None:
    with LocalCluster.start(folder, nodes=3) as cluster:
        taken = cluster.nodes["n2"].grpc
    host, port = taken.split(":")
    with socket.create_server((host, int(port))):
        up = run("up", "--nodes", "3", "--agents", "0", "--dir", str(folder))
    assert up.exit_code == 4
    assert "n2 ended with exit code 4" in up.stderr
    assert taken in up.stderr
    cluster = LocalCluster.attach(folder)
    assert not any(cluster.alive(node_id) for node_id in cluster.nodes)


def test_a_cluster_that_is_not_ready_in_time_is_stopped(folder: Path) -> None:
    with pytest.raises(StartFailed, match=r"not ready after 0\.0 s"):
        LocalCluster.start(folder, nodes=1, timeout_s=0.0)
    assert not LocalCluster.attach(folder).alive("n1")


def test_settings_reach_every_node_and_wrong_ones_are_named(folder: Path) -> None:
    up = run("up", "--nodes", "1", "--agents", "0", "--dir", str(folder), "--set", "limits.page_size=none")
    assert up.exit_code == 4
    assert "limits.page_size is 'none'" in up.stderr


def test_down_without_a_cluster_exits_with_3(folder: Path) -> None:
    assert run("down", "--dir", str(folder)).exit_code == 3


def test_agents_and_their_file_must_agree(folder: Path, tmp_path: Path) -> None:
    crew = tmp_path / "crew.yaml"
    crew.write_text("- {id: a}\n- {id: b}\n")
    result = run("up", "--dir", str(folder), "--agents", "3", "--agent-spec", str(crew))
    assert result.exit_code == 2
    assert "lists 2" in result.stderr


def test_free_ports_are_distinct_and_skip_those_in_use() -> None:
    ports = free_ports("127.0.0.1", 50)
    assert len(set(ports)) == 50
    with socket.create_server(("127.0.0.1", ports[0])):
        assert ports[0] not in free_ports("127.0.0.1", 1_000)


# --- one node ---


@pytest.fixture
def node(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`coordinator serve` on free ports."""
    with serve(tmp_path / "data", "--raft-port", "0") as process:
        yield process
        process.kill()


def serve(data: Path, *arguments: str) -> subprocess.Popen[str]:
    """`coordinator serve` as a process."""
    command = [
        sys.executable,
        "-m",
        "coordinator",
        "serve",
        "--data-dir",
        str(data),
        "--grpc-port",
        "0",
    ]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={}
    )


def test_a_node_alone_prints_where_it_serves_logs_json_and_ends_with_0(node: subprocess.Popen[str]) -> None:
    assert node.stdout is not None
    addresses = json.loads(node.stdout.readline())
    assert addresses["node_id"] == "n1"
    with Client(addresses["grpc"]) as client:
        assert client.node_status(addresses["grpc"]).id == "n1"
    node.send_signal(signal.SIGTERM)
    rest, log = node.communicate(timeout=WAIT_S)
    assert (node.returncode, rest) == (0, "")
    assert {json.loads(line)["node"] for line in log.splitlines()} == {"n1"}


def test_a_second_node_on_the_same_data_exits_with_4_and_says_why(
    node: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert node.stdout is not None
    node.stdout.readline()
    with serve(tmp_path / "data", "--raft-port", "0") as second:
        printed, log = second.communicate(timeout=WAIT_S)
    assert (second.returncode, printed) == (4, "")
    assert json.loads(log.splitlines()[-1])["reason"] == "START_FAILED"
    assert "held by another process" in log


def test_a_port_that_is_taken_exits_with_4_and_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with serve(tmp_path / "data", "--raft-port", port) as process:
            _, log = process.communicate(timeout=WAIT_S)
    assert process.returncode == 4
    assert port in json.loads(log.splitlines()[-1])["error"]
