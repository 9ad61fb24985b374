"""PURE: placement. A snapshot of agents and waiting tasks in, decisions out; nothing here knows what becomes
of them.

`scheduler` is the face; `mirror` keeps its snapshot current with the replicated state. A `snapshot` has
`agents`, what they measure (`load`), `tasks` - what waits, what runs, and what hangs together - and what was
learned of durations and speeds (`learning`). `costs` say what a place is worth.

`plans` are rounds: its `planner` takes tasks in order and asks a `lane` per class for the cheapest agent, on
the `round`'s own copy of what is free; `bulk` does so for many tasks at once, `solver` for the simple
policies. `moves` are about what agents have already. `explain` answers from the very same predicates.
"""
