"""How loaded agents are by their own measurements, and who is overloaded."""
