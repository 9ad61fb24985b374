"""Settings that contradict each other are refused with the name of one to change."""

from __future__ import annotations

import pytest

from coordinator.consensus.framing import frame
from coordinator.consensus.messages import AppendEntries
from coordinator.consensus.settings import RaftSettings
from coordinator.errors import ConfigError
from tests.consensus.lab import command


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"heartbeat_s": 0.0}, "heartbeat_s"),
        ({"heartbeat_s": 0.2}, "election_min_s"),
        ({"election_max_s": 0.1}, "election_min_s"),
        ({"reconnect_min_s": 1.0}, "reconnect_min_s"),
        ({"max_entry_bytes": 16 << 20}, "max_frame_bytes"),
        ({"max_append_entries": 1 << 20}, "max_frame_bytes"),
        ({"max_frame_bytes": 64 << 20}, "max_send_buffer_bytes"),
        ({"max_uncommitted_bytes": 1000}, "max_uncommitted_bytes"),
        ({"keep_entries": 50_000}, "keep_entries"),
    ],
)
def test_contradictions_are_named(values: dict[str, float], setting: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        RaftSettings(**values)  # type: ignore[arg-type]
    assert refusal.value.fields["setting"] == setting


def test_what_may_be_sent_fits_into_a_frame() -> None:
    settings = RaftSettings()
    largest = 1 << 62
    many = [command(largest, b"x" * (settings.max_append_bytes // settings.max_append_entries))]
    for entries in (many * settings.max_append_entries, [command(largest, b"x" * settings.max_entry_bytes)]):
        message = AppendEntries(largest, largest, largest, largest, largest, entries)
        assert len(frame(message)) <= settings.max_frame_bytes
