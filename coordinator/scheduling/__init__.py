"""PURE: placement. A snapshot of agents and waiting tasks in, decisions out; nothing here knows what becomes
of them.

`scheduler` is the face; `mirror` keeps its snapshot current with the replicated state. A `snapshot` has
`agents` with what they hold (`running`), `waiting` tasks and the `graphs` that they belong to, and what is
known of durations (`estimates`).

The plan of a round: `planner` takes tasks in `order` and asks a `lane` per class for the cheapest agent, by
`pricing` and `weights`, on the `round`'s own copy of what is free; `bulk` does so for many tasks at once.
`rivals` are second attempts, `spares` those that are not needed any more. `feasibility` says who may take a
task, `lookahead` what an agent may hold, `explain` answers from the very same predicates.

Simple `policies` have a `solver` of their own, on `objectives`. `load`, `thresholds` and `overload` judge
what agents measure.
"""
