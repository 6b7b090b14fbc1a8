"""Can I trust my LLM-inference simulator? Evidence from real engines, as pytest tests.

``__init__.pyi`` beside this file lists the public API. Each name is imported when it is first used,
so that ``import pytest_gpusim`` costs a pytest session nothing, and an interrupt finds nothing here
to interrupt.
"""

import sys


def __getattr__(name: str) -> object:
    """The first name that anybody asks for: from here on the list tells where each is."""
    import lazy_loader

    found = lazy_loader.attach_stub(__name__, __file__)
    globals().update(zip(("__getattr__", "__dir__", "__all__"), found, strict=True))
    return getattr(sys.modules[__name__], name)


def __dir__() -> list[str]:
    return list(sys.modules[__name__].__all__)
