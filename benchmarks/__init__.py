"""The comparisons that this project itself stands behind."""
