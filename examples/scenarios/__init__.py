"""Five scenarios, each with what was measured beside what is asked for."""
