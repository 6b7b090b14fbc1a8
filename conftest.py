"""The tests drive real pytest sessions."""

pytest_plugins = ["pytester"]
