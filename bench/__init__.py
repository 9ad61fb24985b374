"""The benchmarks: real nodes, agents and clients as processes of this machine, as shipped."""
