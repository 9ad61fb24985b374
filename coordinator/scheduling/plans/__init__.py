"""Rounds: which waiting task gets which place, or keeps one, and why."""
