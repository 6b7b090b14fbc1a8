"""Measured operating points: each simulated as the load that its client made."""
