"""Producers of bundles, one module per source."""
