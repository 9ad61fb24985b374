"""PURE: the replicated state machine. No clock, randomness, I/O, environment, thread or log is imported
here.

`model` is what is stored, `state` all of it, `commands` what may be asked, `machine` how the one changes the
other, `outcome` what comes of it, `invariants` what must always hold.
"""
