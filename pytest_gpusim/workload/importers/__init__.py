"""Workloads from other tools' traces; one module per format, `base` and `options` shared.

An importer is called with (file, directory to write, options) and writes a workload. Each says in
its module what the format tells of arrivals, lengths and shared prefixes, and in which units.
"""
