"""The simulator: whole clusters of the real code in one process, on virtual time, from one seed."""
