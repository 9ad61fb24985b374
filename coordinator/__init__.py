"""Quorumflow's coordinator: a replicated scheduler for fleets of agents. `docs/architecture.md` is the way
in."""
