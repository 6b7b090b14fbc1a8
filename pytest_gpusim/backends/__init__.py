"""Real engines, and recordings of them: each writes run directories."""
