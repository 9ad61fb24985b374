"""Three real nodes that know each other by certificates commit, survive their leader, and take new
certificates without a restart (A1, A2, G6)."""

from __future__ import annotations

from agent_sdk import Client
from agent_sdk.errors import Unavailable
from coordinator.cli.authority import Authority
from tests.integration.conftest import WAIT_S, StartCluster, eventually_sync


def test_a_cluster_with_certificates_commits_and_survives_its_leader(start_cluster: StartCluster) -> None:
    cluster = start_cluster(nodes=3, tls=True)
    with Client(cluster.endpoints) as client:
        client.kv.put("before", b"1")
        leader = cluster.leader()
        cluster.kill_node(leader)
        client.kv.put("after", b"2")
        assert cluster.leader(WAIT_S) != leader

        certs = cluster.directory / "certs"
        for path in (certs / f"{leader}.crt", certs / f"{leader}.key"):
            path.unlink()
        Authority.found(certs, "quorumflow").issue(leader)
        cluster.restart_node(leader)
        cluster.wait_until_ready(WAIT_S)
        index = client.cluster_status().commit_index
        address = cluster.nodes[leader].grpc
        assert eventually_sync(lambda: has_reached(client, address, index), "the node has caught up")
        assert {item.key: item.value for item in client.kv.range()} == {"before": b"1", "after": b"2"}


def has_reached(client: Client, address: str, index: int) -> bool:
    """Whether the node knows the entry to be committed. The client may have found nobody there a moment ago,
    and waits before it connects anew."""
    try:
        return client.node_status(address).commit_index >= index
    except Unavailable:
        return False
