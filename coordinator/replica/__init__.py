"""The shell around the state machine: what proposes, applies, leads, places, dispatches, waits and tells."""
