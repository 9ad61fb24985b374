"""The two programs: `coordinator` runs nodes and agents, `coordctl` talks to a cluster."""
