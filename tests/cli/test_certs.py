"""`coordinator certs`: what it makes fits the nodes that it is for, nothing is overwritten, and a node of a
cluster that has none does not start (G6)."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from coordinator.cli.server import main
from coordinator.consensus.tls import Certificates, identity

THREE = "n1=h1:7401/h1:7400,n2=h2:7401/h2:7400"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "certs"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def certificate(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())


def trusted(folder: Path, node: str, cluster: str) -> Certificates:
    files = (folder / name for name in ("ca.crt", f"{node}.crt", f"{node}.key"))
    return Certificates(*files, me=identity(cluster, node), warn_days=1)


def test_each_node_gets_what_a_peer_will_take(folder: Path) -> None:
    made = run("certs", "--out", str(folder), "--cluster-id", "prod", "n1=h1,10.0.0.1", "n2")
    assert made.exit_code == 0, made.output
    assert f"n1: --tls-ca {folder}/ca.crt --tls-cert {folder}/n1.crt --tls-key {folder}/n1.key" in made.output
    for node in ("n1", "n2"):
        trusted(folder, node, "prod")
    names = certificate(folder, "n1").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["quorumflow://prod/n1", "h1", "10.0.0.1"]


def test_keys_are_for_their_owner_alone(folder: Path) -> None:
    assert run("certs", "--out", str(folder), "n1").exit_code == 0
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "n1.crt": 0o644,
        "n1.key": 0o600,
    }


def test_certificates_end_when_they_should_and_never_after_their_authority(folder: Path) -> None:
    assert run("certs", "--out", str(folder), "--days", "7", "--ca-days", "10", "n1").exit_code == 0
    assert run("certs", "--out", str(folder), "--days", "99", "n2").exit_code == 0
    now = datetime.now(UTC)
    ends = {name: certificate(folder, name).not_valid_after_utc for name in ("ca", "n1", "n2")}
    assert timedelta(days=6) < ends["n1"] - now < timedelta(days=8)
    assert ends["n2"] == ends["ca"] < now + timedelta(days=11)


def test_nodes_are_added_by_the_same_authority_and_nothing_is_overwritten(folder: Path) -> None:
    assert run("certs", "--out", str(folder), "n1").exit_code == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = run("certs", "--out", str(folder), "n1")
    assert (again.exit_code, "n1.key exists, and is not overwritten" in again.stderr) == (5, True)
    assert run("certs", "--out", str(folder), "n2").exit_code == 0
    assert {name: (folder / name).read_bytes() for name in before} == before
    trusted(folder, "n2", "quorumflow")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--cluster-id", "other", "n9"], "Quorumflow development authority"),
        (["--cluster-id", "with space", "n9"], "--cluster-id is 'with space'"),
        (["n/9"], "NODE is 'n/9'"),
        (["=host"], "NODE is ''"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_made(
    arguments: list[str], complaint: str, folder: Path
) -> None:
    assert run("certs", "--out", str(folder), "n1").exit_code == 0
    refused = run("certs", "--out", str(folder), *arguments)
    assert (refused.exit_code, complaint in refused.stderr) == (2, True), refused.stderr
    assert len(list(folder.iterdir())) == 4


def test_an_authority_without_its_key_issues_nothing(folder: Path) -> None:
    assert run("certs", "--out", str(folder), "n1").exit_code == 0
    (folder / "ca.key").unlink()
    refused = run("certs", "--out", str(folder), "n2")
    assert (refused.exit_code, "cannot read the authority" in refused.stderr) == (2, True)


def test_a_node_of_a_cluster_says_what_to_do_when_it_has_no_certificate(tmp_path: Path) -> None:
    refused = run("serve", "--cluster-nodes", THREE, "--data-dir", str(tmp_path / "data"))
    assert refused.exit_code == 2
    assert "`coordinator certs --out DIR --cluster-id quorumflow n1 n2`" in refused.stderr
    assert "tls.mode=off on every node" in refused.stderr
    assert not (tmp_path / "data").exists()
