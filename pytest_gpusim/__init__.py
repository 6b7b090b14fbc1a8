"""Can I trust my LLM-inference simulator? Evidence from real engines, as pytest tests.

The names below are the public API; ``__init__.pyi`` beside this file is their list. Each is
imported when it is first used, so that ``import pytest_gpusim`` costs a pytest session nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
