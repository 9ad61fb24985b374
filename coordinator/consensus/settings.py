"""Every time-out and bound of consensus, named, with its default."""

from __future__ import annotations

import msgspec

from coordinator.errors import ConfigError

KIB = 1 << 10
MIB = 1 << 20

FRAME_OVERHEAD_BYTES = 64 * KIB
"""Room in a frame for everything but payloads."""
ENTRY_OVERHEAD_BYTES = 32
"""Room for an entry's term, kind and length."""


class RaftSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Names end in the unit: seconds, bytes; the others are counts.

    Raises:
        ConfigError: a value is out of range or contradicts another.
    """

    heartbeat_s: float = 0.05
    election_min_s: float = 0.3
    """Also how long a node that heard its leader refuses to vote for another (leader stickiness)."""
    election_max_s: float = 0.6
    """Also how long a leader stays one without hearing from a majority (check-quorum)."""
    election_recheck_s: float = 0.005
    """A deadline that has passed is looked at again this much later: after a stall, what has arrived is read
    first."""
    orphan_jitter_s: float = 0.05
    """When the leader's connection closes, PreVote starts within this time."""
    orphan_rounds: int = 4
    """So many rounds may follow one another in one to three times `orphan_jitter_s`: votes that were
    split."""
    commit_notice_s: float = 0.005
    """Followers hear of a new commit index within this time, though there is nothing else to send."""
    gather_s: float = 0.02
    """Commands that come faster than the leader can make entries wait at most this long to share one."""
    transfer_timeout_s: float = 1.0
    brief_sync_s: float = 0.001
    """While syncs of the log take less than this on average, the event loop waits for them itself."""
    slow_sync_s: float = 0.1
    """A sync that takes longer is counted and logged."""

    max_members: int = 64
    """Voters and learners together."""
    promote_max_lag_entries: int = 1000
    """A learner that lacks no more entries may become a voter."""
    abstain_rounds: int = 3
    """A node whose disk is nearly full lets so many election timeouts pass before it stands after all."""

    max_entry_bytes: int = 4 * MIB
    max_frame_bytes: int = 16 * MIB
    max_append_entries: int = 4096
    max_append_bytes: int = 1 * MIB
    """One message carries no more than this, unless a single entry is larger."""
    max_refusal_runs: int = 256
    """Runs of entries of one term that a refusal names: as many terms of conflict are left behind at once."""
    window_messages: int = 4
    window_bytes: int = 8 * MIB
    max_uncommitted_entries: int = 65_536
    max_uncommitted_bytes: int = 64 * MIB
    max_waiting_reads: int = 65_536
    apply_entries: int = 1024
    apply_bytes: int = 64 * KIB
    """Of small commands that is a thousand and more, which take some 20 us each: between runs the loop hears
    and answers others."""
    follower_apply_s: float = 0.005
    """A follower puts off what it has to apply for at most this long, so as to apply more at once."""

    digest_history: int = 16_384
    """Digests of the last entries applied, to compare the followers' with."""
    tail_entries: int = 16_384
    tail_bytes: int = 64 * MIB
    """The newest entries are kept in memory up to these two bounds."""
    compact_after_entries: int = 50_000
    compact_after_bytes: int = 256 * MIB
    """The log is cut beyond either; only beyond twice as much while a follower receives a snapshot."""
    keep_entries: int = 10_000
    keep_bytes: int = 64 * MIB
    """What compaction leaves for followers that lag a little, up to both bounds."""
    snapshot_bytes_per_s: int = 32 * MIB
    """A leader sends a snapshot no faster, to each follower."""
    snapshot_window_chunks: int = 16
    """Chunks that a follower has not acknowledged; they are kept, to be sent again."""
    snapshot_resend_s: float = 1.0
    """What is not acknowledged within this time is sent again."""
    snapshot_stall_s: float = 30.0
    """A snapshot whose follower says nothing of it for this long, connected or not, is begun anew."""
    snapshot_life_s: float = 1800.0
    """A transfer that takes longer is begun anew: it pins old data on the leader's disk."""
    snapshot_retry_s: float = 1.0
    """Pause after a snapshot that was refused."""

    reconnect_min_s: float = 0.01
    reconnect_max_s: float = 0.2
    connect_timeout_s: float = 2.0
    handshake_timeout_s: float = 2.0
    link_timeout_s: float = 3.0
    """A connection whose peer's kernel acknowledges nothing for this long is closed."""
    max_unidentified_links: int = 64
    max_send_buffer_bytes: int = 32 * MIB

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise _contradiction(f"{name} must be above 0, it is {getattr(self, name)}", name)
        if not self.heartbeat_s * 3 <= self.election_min_s <= self.election_max_s:
            raise _contradiction(
                "3 x heartbeat_s <= election_min_s <= election_max_s must hold", "election_min_s"
            )
        if self.reconnect_min_s > self.reconnect_max_s:
            raise _contradiction("reconnect_min_s <= reconnect_max_s must hold", "reconnect_min_s")
        around = FRAME_OVERHEAD_BYTES + ENTRY_OVERHEAD_BYTES * self.max_append_entries
        if max(self.max_entry_bytes, self.max_append_bytes) + around > self.max_frame_bytes:
            raise _contradiction(
                f"max_entry_bytes and max_append_bytes must fit into max_frame_bytes with {around} to spare",
                "max_frame_bytes",
            )
        if self.max_frame_bytes > self.max_send_buffer_bytes:
            raise _contradiction(
                "max_frame_bytes <= max_send_buffer_bytes must hold", "max_send_buffer_bytes"
            )
        if self.max_entry_bytes > self.max_uncommitted_bytes:
            raise _contradiction(
                "max_entry_bytes <= max_uncommitted_bytes must hold", "max_uncommitted_bytes"
            )
        if not self.snapshot_resend_s < self.snapshot_stall_s <= self.snapshot_life_s:
            raise _contradiction(
                "snapshot_resend_s < snapshot_stall_s <= snapshot_life_s must hold", "snapshot_stall_s"
            )
        if self.keep_entries >= self.compact_after_entries:
            raise _contradiction("keep_entries < compact_after_entries must hold", "keep_entries")
        if self.keep_bytes * 2 > self.compact_after_bytes:
            raise _contradiction("2 x keep_bytes <= compact_after_bytes must hold", "keep_bytes")


def _contradiction(what: str, setting: str) -> ConfigError:
    return ConfigError(f"consensus settings: {what}", setting=setting)
