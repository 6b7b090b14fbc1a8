"""What is deployed: a model's shape, the hardware under it, and the engine's settings."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
