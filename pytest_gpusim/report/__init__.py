"""Showing comparisons and keeping them: directory, terminal, Markdown, charts, HTML."""
