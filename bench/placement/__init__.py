"""How good plans are and how fast they are made: workflows that nobody here wrote, on virtual time."""
