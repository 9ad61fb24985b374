"""The workloads on other systems, each in an environment of its own, by turns with ours on one machine."""
