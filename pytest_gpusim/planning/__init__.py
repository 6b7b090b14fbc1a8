"""Many simulations at once: grids of them, fleets, capacity, and the decisions taken from those."""
