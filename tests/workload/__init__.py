"""Tests of workloads: generation, contents, reading."""
