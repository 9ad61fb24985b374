"""What a place costs: terms, their weights, and the policies that name these."""
