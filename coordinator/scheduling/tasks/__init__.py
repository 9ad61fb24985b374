"""The tasks of a snapshot: what waits and in which order, what runs, what follows it, and whose it is."""
