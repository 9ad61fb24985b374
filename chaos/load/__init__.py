"""What clients ask of a cluster while it is being hurt."""
