"""Published real runs simulated from their own profiles: ``gpusim published DIR…``.

A folder holds a profile, a real vLLM run and what another simulator's authors report on it (the
shape of LLMServingSim's ``bench/examples``). Everything is read from the files; the run itself is
only compared with, never calibrated on.
"""

from pytest_gpusim.published.comparison import compare_published, published_lines

__all__ = ["compare_published", "published_lines"]
