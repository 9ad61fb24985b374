"""The replicated state machine: `apply(state, index, entry) -> Outcome`.

Total: it never raises on a decoded entry; a command that is refused is a reply. Deterministic: the same
entry at the same index gives the same replies and writes on every node, in the same order, whether the
node has just restarted or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from coordinator.core import commands as c
from coordinator.core.answers import RequestRecord
from coordinator.core.appliers import agents, dags, kv, namespaces, reservations, tasks
from coordinator.core.limits import REQUEST_TTL_MS, REQUESTS_KEPT
from coordinator.core.outcome import Outcome, Reply, Table, decode_reply, encode_reply
from coordinator.core.state import State
from coordinator.core.transaction import Transaction, number_key
from coordinator.core.writers import forget_idle

APPLIERS: Final[dict[type, Callable[[Transaction, Any], Reply]]] = {
    c.SubmitDag: dags.submit,
    c.StageDag: dags.stage,
    c.DropStaged: dags.drop_staged,
    c.CancelDag: dags.cancel,
    c.SweepDag: dags.sweep,
    c.PurgeDags: dags.purge,
    c.Assign: tasks.assign,
    c.AssignRoots: tasks.assign_roots,
    c.Report: tasks.report,
    c.ExpireAttempts: tasks.expire,
    c.WakeTasks: tasks.wake,
    c.CancelTask: tasks.cancel,
    c.RescheduleTask: tasks.reschedule,
    c.SpawnTasks: tasks.spawn,
    c.Recall: tasks.recall,
    c.Preempt: tasks.preempt,
    c.OpenSession: agents.open_session,
    c.ChangeAgent: agents.change,
    c.CloseSession: agents.close_session,
    c.LoseAgents: agents.lose,
    c.DrainAgent: agents.drain,
    c.RecordLoads: agents.record_loads,
    c.ForgetAgents: agents.forget,
    c.KeepLoads: agents.keep_loads,
    c.KvPut: kv.put,
    c.KvDelete: kv.delete,
    c.SetNamespace: namespaces.change,
    c.UnsetNamespace: namespaces.unset,
    c.SetReservation: reservations.change,
    c.RemoveReservation: reservations.remove,
}


def apply(state: State, index: int, entry: c.Entry) -> Outcome:
    """Carry out the entry at log index `index`, command by command."""
    tx = Transaction(state, index, entry.at_ms, entry_format=entry.format)
    _forget_requests(tx)
    forget_idle(tx)
    replies = [_carry_out(tx, command) for command in entry.commands]
    return Outcome(replies, tx.finish(), tx.events, tx.kv_events, tx.effects)


def knows(state: State, command: c.Command) -> bool:
    """Whether the command has been carried out and its reply is kept: it is a retry then, and takes nothing
    more."""
    if isinstance(command, c.KvPut | c.KvDelete):
        writer = state.kv.writers.get(command.write.writer)
        return writer is not None and command.write.number in writer.replies
    return getattr(command, "request_id", "") in state.requests


def _carry_out(tx: Transaction, command: c.Command) -> Reply:
    request_id: str = getattr(command, "request_id", "")
    if request_id and (known := tx.state.requests.get(request_id)) is not None:
        return decode_reply(known.reply)
    reply = APPLIERS[type(command)](tx, command)
    tx.settle()
    if request_id:
        _remember(tx, request_id, reply)
    return reply


def _remember(tx: Transaction, request_id: str, reply: Reply) -> None:
    sequence = tx.next_sequence()
    record = RequestRecord(request_id, sequence, tx.now_ms + REQUEST_TTL_MS, encode_reply(reply))
    tx.state.requests[request_id] = record
    tx.write(Table.REQUEST, number_key(sequence), record)


def _forget_requests(tx: Transaction) -> None:
    """Expired ones, and the oldest beyond the bound. The dict is in order of `sequence`, and so of expiry."""
    requests = tx.state.requests
    while requests:
        oldest = next(iter(requests.values()))
        if oldest.expires_ms > tx.now_ms and len(requests) <= REQUESTS_KEPT:
            return
        del requests[oldest.request_id]
        tx.write(Table.REQUEST, number_key(oldest.sequence), None)
