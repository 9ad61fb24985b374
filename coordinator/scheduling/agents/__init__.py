"""The agents of a snapshot: what they offer, what they hold, and what they can take."""
