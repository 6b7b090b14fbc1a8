"""Vidur, driven from outside: the only package that imports vidur."""
