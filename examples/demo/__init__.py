"""The demo: real workflows on a cluster of this machine, which loses its leader and an agent in mid-run."""
