"""Numbered writes take effect once, however often they are tried (Ongaro's thesis, 6.3).

A client that may repeat its writes names itself and numbers them, and says with each below which number all
have been answered. What is remembered is thus bounded by what the client waits for, not by how fast it
writes: one small record per client, overwritten in place, and no write of a busy client can push out what
another one still needs.
"""

from __future__ import annotations

from coordinator.core.commands import WriteId
from coordinator.core.keyspace import WriterRecord
from coordinator.core.limits import UNANSWERED_WRITES, WRITER_CHARS, WRITER_TTL_MS, WRITERS_KEPT
from coordinator.core.outcome import Refusal, Reply, decode_reply, encode_reply
from coordinator.core.transaction import Transaction


def recall(tx: Transaction, write: WriteId) -> Reply | None:
    """The reply that the write has had already, or why it cannot be carried out; None if it is to be."""
    if not write.writer:
        return None
    if len(write.writer) > WRITER_CHARS or not 0 <= write.answered <= write.number or write.number < 1:
        return Refusal(
            "INVALID_REQUEST",
            f"write {write.number} of {write.writer[:WRITER_CHARS]!r}, answered below {write.answered}: a "
            f"writer's name has at most {WRITER_CHARS} characters, its writes count from 1, and none is "
            "answered before it is sent",
        )
    known = tx.state.kv.writers.get(write.writer)
    if known is None:
        return None
    if (reply := known.replies.get(write.number)) is not None:
        return decode_reply(reply)
    _advance(tx, known, write.answered)
    if write.number < known.answered:
        return Refusal(
            "STALE_FENCE",
            f"write {write.number} comes after its client has stopped waiting for all below "
            f"{known.answered}; nothing was done",
            {"number": str(write.number), "current": str(known.answered)},
        )
    if len(known.replies) >= UNANSWERED_WRITES:
        return Refusal(
            "QUEUE_FULL",
            f"{len(known.replies)} writes of this client have been carried out, and it has not confirmed "
            "that their answers arrived; retry when it has",
            {"limit": str(UNANSWERED_WRITES), "setting": "UNANSWERED_WRITES"},
        )
    return None


def remember(tx: Transaction, write: WriteId, reply: Reply) -> None:
    """Keep the reply to a write that `recall` knew nothing of."""
    if not write.writer:
        return
    writers = tx.state.kv.writers
    record = writers.get(write.writer)
    if record is None:
        record = writers[write.writer] = WriterRecord(write.writer, answered=max(write.answered, 1))
    record.used = tx.next_sequence()
    record.expires_ms = tx.now_ms + WRITER_TTL_MS
    record.replies[write.number] = encode_reply(reply)
    writers.move_to_end(write.writer)
    tx.touch_writer(write.writer)


def forget_idle(tx: Transaction) -> None:
    """Forget writers that have not written for long, and the longest idle beyond the bound."""
    writers = tx.state.kv.writers
    while writers:
        idle = next(iter(writers.values()))
        if idle.expires_ms > tx.now_ms and len(writers) <= WRITERS_KEPT:
            return
        del writers[idle.writer]
        tx.touch_writer(idle.writer)


def _advance(tx: Transaction, record: WriterRecord, answered: int) -> None:
    """Forget the replies below `answered`."""
    if answered <= record.answered:
        return
    if answered - record.answered <= len(record.replies):
        for number in range(record.answered, answered):
            record.replies.pop(number, None)
    else:
        record.replies = {number: reply for number, reply in record.replies.items() if number >= answered}
    record.answered = answered
    tx.touch_writer(record.writer)
