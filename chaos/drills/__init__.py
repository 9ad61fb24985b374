"""One module per drill: what it does to a cluster, what it measures, what it checks."""
