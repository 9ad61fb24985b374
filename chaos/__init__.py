"""Faults against real clusters, and checks of what they left behind."""
