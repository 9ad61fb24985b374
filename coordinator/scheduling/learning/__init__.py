"""What ends have taught: of kinds of tasks, of agents, and of both together."""
