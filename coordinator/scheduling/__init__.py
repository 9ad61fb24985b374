"""PURE: placement. A snapshot of agents and waiting tasks in, a plan out; nothing here knows what becomes of
it.

`agents` and `waiting` are the two halves of a `snapshot`, which the leader keeps current step by step;
`feasibility` says who may take a task, `objectives` at what cost, `policies` names the costs; `solver` makes
the plan on a `ledger`, the round's own copy of what is free; `lookahead` bounds what an agent may hold;
`explain` answers from the very same predicates. `measured` keeps the agents' loads, `load` makes one score of
them by the `load_weights`, and `overload` tells by the `thresholds` who takes nothing new.
"""
