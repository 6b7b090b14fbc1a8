"""Mutated genuine inputs against every reader, in process: ``python -m tests.fuzz --minutes N``."""
