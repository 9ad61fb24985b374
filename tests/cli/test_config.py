"""The configuration: what is accepted and refused, from which source, in which order of precedence; that each
refusal names key, value, source and what is allowed; and that the documented reference is the code's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from coordinator.addresses import format_address, parse_address
from coordinator.cli.server import main
from coordinator.config import Given, NodeConfig, build, gather, load, settings
from coordinator.consensus.port import Member
from coordinator.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
THREE = "n1=h1:7401/h1:7400, n2=h2:7401/h2:7400,n3=[::1]:7401/[::1]:7400"


def configured(**values: object) -> NodeConfig:
    """The configuration with these settings; "__" in a name stands for "."."""
    return build({key.replace("__", "."): Given(value, "test") for key, value in values.items()})


def test_nothing_configured_is_a_cluster_of_one_on_the_loopback_interface() -> None:
    config = build({})
    assert (config.node_id, config.data_dir) == ("n1", "./coordinator-data")
    assert (config.grpc_listen, config.raft_listen) == ("127.0.0.1:7400", "127.0.0.1:7401")
    assert config.members == (Member(id="n1", raft="127.0.0.1:7401", grpc="127.0.0.1:7400"),)
    assert config.myself is config.members[0]


def test_flags_overrule_the_environment_which_overrules_the_file() -> None:
    document = {"node_id": "file", "cluster_id": "file", "data_dir": "file", "limits": {"page_size": 5}}
    environment = {"NODE_ID": "env", "CLUSTER_ID": "env", "COORDINATOR__LIMITS__PAGE_SIZE": "7", "HOME": "/"}
    flags = {"node_id": Given("flag", "flag --node-id")}
    config = build(gather(document, environment, flags))
    assert (config.node_id, config.cluster_id, config.data_dir, config.limits.page_size) == (
        "flag",
        "env",
        "file",
        7,
    )


def test_the_file_is_named_by_flag_or_environment_and_may_leave_sections_empty(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("node_id: n7\nlimits:\nraft: {heartbeat_s: 0.02}\nlog.level: debug\n")
    for config, given in (load(path, {}, {}), load(None, {"COORDINATOR_CONFIG": str(path)}, {})):
        assert (config.node_id, config.raft.heartbeat_s, config.log.level) == ("n7", 0.02, "debug")
        assert given["node_id"].source == f"file {path}"


def test_a_node_learns_its_own_addresses_from_the_cluster_s_nodes() -> None:
    config = configured(node_id="n2", cluster_nodes=THREE, tls__mode="off")
    assert [member.id for member in config.members] == ["n1", "n2", "n3"]
    assert (config.grpc_listen, config.raft_listen) == ("h2:7400", "h2:7401")
    behind = configured(
        node_id="n2", cluster_nodes=THREE, listen_host="0.0.0.0", raft_port="9401", tls__mode="off"
    )
    assert (behind.grpc_listen, behind.raft_listen) == ("0.0.0.0:7400", "0.0.0.0:9401")
    assert behind.myself == Member(id="n2", raft="h2:7401", grpc="h2:7400")


def test_a_node_alone_is_reached_where_it_says() -> None:
    config = configured(listen_host="::", advertise_host="box", grpc_port=0, raft_port=0)
    assert (config.grpc_listen, config.myself.grpc) == ("[::]:0", "box:0")


REFUSED: list[tuple[dict[str, object], str, str]] = [
    ({"node_id": "with space"}, "node_id", "text that matches"),
    ({"node_id": ""}, "node_id", "text that matches"),
    ({"data_dir": ""}, "data_dir", "a folder"),
    ({"listen_host": ""}, "listen_host", "name or address"),
    ({"listen_host": "0.0.0.0"}, "advertise_host", "how others reach this node"),
    ({"grpc_port": "70000"}, "grpc_port", "from 0 to 65535"),
    ({"grpc_port": -1}, "grpc_port", "from 0 to 65535"),
    ({"grpc_port": "7400x"}, "grpc_port", "from 0 to 65535"),
    ({"raft_port": 7400}, "raft_port", "another port than grpc_port, 7400"),
    ({"log__level": "loud"}, "log.level", "debug"),
    ({"limits__page_size": 0}, "limits.page_size", "from 1 to 10000"),
    ({"limits__page_size": [1]}, "limits.page_size", "from 1 to 10000"),
    ({"limits__max_dag_tasks": -5}, "limits.max_dag_tasks", "above 0"),
    ({"limits__max_dag_tasks": 1 << 25}, "limits.max_dag_tasks", "at most 16777216"),
    ({"limits__max_payload_bytes": 3 << 20}, "limits.max_payload_bytes", "at most half of"),
    ({"limits__max_result_bytes": 3 << 20}, "limits.max_result_bytes", "at most half of"),
    ({"limits__max_message_bytes": 64 << 20}, "limits.max_message_bytes", "at most raft.max_entry_bytes"),
    ({"limits__max_queued_bytes": 1 << 20}, "limits.max_queued_bytes", "at least limits.max_message_bytes"),
    ({"raft__heartbeat_s": "nan"}, "raft.heartbeat_s", "above 0"),
    ({"raft__heartbeat_s": "fast"}, "raft.heartbeat_s", "above 0"),
    ({"load__high": "nan"}, "load.high", "from 0 to 1"),
    ({"load__high": 1.5}, "load.high", "from 0 to 1"),
    ({"load__low": 0.95}, "load.low", "below load.high, 0.95"),
    ({"load__low": 0.1}, "load.floor", "above load.high - load.low, 0.85"),
    ({"load__floor": 0.99}, "load.floor", "at most load.ceiling, 0.98"),
    ({"load__k": -1}, "load.k", "from 0 to 100"),
    ({"load__mode": "maybe"}, "load.mode", "adaptive, fixed, off"),
    ({"load__weights": "cpu=0"}, "load.weights", "are all 0"),
    ({"load__weights": "cpu=-1"}, "load.weights", "cpu of a LoadScore is -1.0"),
    ({"load__weights": "disk=1"}, "load.weights", "'disk=1' is no weight"),
    ({"load__weights": "history=1"}, "load.weights", "weight on the agent's machine"),
    ({"scheduling__policy": ""}, "scheduling.policy", "text that matches"),
    ({"scheduling__round_ms": "nan"}, "scheduling.round_ms", "from 1 to 1000"),
    ({"scheduling__least_batch": 3_000}, "scheduling.least_batch", "at most scheduling.most_batch, 2000"),
    ({"scheduling__least_patience": 5}, "scheduling.least_patience", "at most scheduling.most_patience, 4"),
    ({"scheduling__explained_per_s": -1}, "scheduling.explained_per_s", "from 0 to 10000"),
    ({"cluster_nodes": "n1"}, "cluster_nodes", "id=raft_host:port/grpc_host:port"),
    ({"cluster_nodes": "n1=h:1"}, "cluster_nodes", "id=raft_host:port/grpc_host:port"),
    ({"cluster_nodes": "n1=h:0/h:1"}, "cluster_nodes", "id=raft_host:port/grpc_host:port"),
    ({"cluster_nodes": "n 1=h:1/h:2"}, "cluster_nodes", "id=raft_host:port/grpc_host:port"),
    ({"cluster_nodes": "n1=h:1/h:2,n1=h:3/h:4"}, "cluster_nodes", "n1 once only"),
    ({"cluster_nodes": "n1=h:1/h:2,n2=h:2/h:3"}, "cluster_nodes", "h:2 once only"),
    ({"cluster_nodes": THREE, "grpc_port": 0}, "cluster_nodes", "this node alone"),
    ({"cluster_nodes": THREE, "node_id": "n9"}, "node_id", "one of cluster_nodes: n1, n2, n3"),
    ({"cluster_nodes": THREE}, "tls.cert", "`coordinator certs --out DIR --cluster-id quorumflow n1 n2 n3`"),
    ({"cluster_nodes": THREE}, "tls.cert", "tls.mode=off on every node"),
    ({"tls__mode": "maybe"}, "tls.mode", "off, required"),
    ({"forecast__extras": "arima,oracle"}, "forecast.extras", "arima,lstm,prophet"),
    ({"forecast__extras": "arima,arima"}, "forecast.extras", "each once"),
    ({"forecast__short_step_s": 61}, "forecast.short_step_s", "from 1 to 60"),
    ({"forecast__long_step_s": 60}, "forecast.long_step_s", "at least forecast.medium_step_s, 120"),
    ({"forecast__medium_step_s": 9}, "forecast.medium_step_s", "at least forecast.short_step_s, 10"),
    ({"tls__key": "n1.key"}, "tls.cert", "all of tls.ca, tls.cert and tls.key"),
]


@pytest.mark.parametrize(("values", "key", "allowed"), REFUSED)
def test_a_refusal_names_key_value_source_and_what_is_allowed(
    values: dict[str, object], key: str, allowed: str
) -> None:
    with pytest.raises(ConfigError) as refusal:
        configured(**values)
    fields = refusal.value.fields
    assert fields["key"] == key
    assert allowed in fields["allowed"]
    given = values.get(key.replace(".", "__"))
    if given is not None:
        assert (fields["value"], fields["source"]) == (str(given), "test")
    assert all(fields[name] in str(refusal.value) for name in ("key", "source", "allowed"))


def test_what_contradicts_itself_in_consensus_is_refused_with_its_source() -> None:
    with pytest.raises(ConfigError, match=r"election_min_s.*raft\.heartbeat_s from test"):
        configured(raft__heartbeat_s=0.2)


UNKNOWN = [
    ({"limits.page_sise": 5}, {}, "limits.page_size"),
    ({"page_size": 5}, {}, "limits.page_size"),
    ({"nodeid": "x"}, {}, "node_id"),
    ({"limits": 5}, {}, "docs/configuration.md"),
    ({}, {"COORDINATOR__LIMITS__PAGESIZE": "5"}, "limits.page_size"),
    ({"members": []}, {}, "raft.max_members"),
]


@pytest.mark.parametrize(("document", "environment", "hint"), UNKNOWN)
def test_an_unknown_key_is_refused_with_close_matches(
    document: dict[str, Any], environment: dict[str, str], hint: str
) -> None:
    with pytest.raises(ConfigError, match="there is no setting") as refusal:
        gather(document, environment, {})
    assert hint in str(refusal.value)


@pytest.mark.parametrize("text", ["a: [", "- a", "\x00", b"\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "odd.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"odd\.yaml"):
        load(path, {}, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load(tmp_path / "none.yaml", {}, {})


@pytest.mark.parametrize("text", ["h:1", "127.0.0.1:65535", "[::1]:80"])
def test_addresses_survive_reading_and_writing(text: str) -> None:
    assert format_address(*parse_address(text)) == text


@pytest.mark.parametrize("text", ["h", "h:", ":1", "h:-1", "h:65536", "h:x", "h:\u0661", ""])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text or "^$"):
        parse_address(text)


def test_every_default_passes_its_own_check_when_it_is_given_as_text() -> None:
    for key, setting in settings().items():
        if setting.default != "":
            assert build({key: Given(str(setting.default), "test")}) == build({}), key


def test_the_reference_lists_every_setting_as_it_is() -> None:
    lines = (ROOT / "docs" / "configuration.md").read_text().splitlines()
    rows = [
        [cell.strip().strip("`") for cell in line.split("|")[1:-1]]
        for line in lines
        if line.startswith("| `")
    ]
    listed = {row[0]: row[1:4] for row in rows}
    assert listed == {
        key: [setting.variable, str(setting.default), setting.allowed] for key, setting in settings().items()
    }


def test_config_prints_every_setting_with_its_source(tmp_path: Path) -> None:
    path = tmp_path / "node.yaml"
    path.write_text("limits: {page_size: 5}\n")
    result = CliRunner().invoke(
        main, ["config", "--config", str(path), "--node-id", "n5"], env={"DATA_DIR": "d"}
    )
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert rows["node_id"] == ["n5", "flag", "--node-id"]
    assert rows["data_dir"] == ["d", "environment", "variable", "DATA_DIR"]
    assert rows["limits.page_size"] == ["5", "file", str(path)]
    assert set(settings()) <= set(rows)


def test_serve_refuses_a_wrong_setting_before_it_does_anything(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["serve", "--data-dir", str(tmp_path / "d"), "--set", "limits.page_size=no"]
    )
    assert result.exit_code == 2
    assert "limits.page_size" in result.stderr
    assert "--set" in result.stderr
    assert not (tmp_path / "d").exists()
