"""Showing comparisons: terminal, Markdown, figures, HTML. Knows only what a comparison wrote."""
