"""Whether a bundle can be trusted, and covers what is asked of it."""
