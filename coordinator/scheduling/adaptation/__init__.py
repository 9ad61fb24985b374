"""Parameters of placement that follow what is measured: within bounds, and each change with its reason."""
