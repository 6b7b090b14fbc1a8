"""Cross-check of the stopwatch: the same server and load, two load generators."""
