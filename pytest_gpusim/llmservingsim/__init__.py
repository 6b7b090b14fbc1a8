"""LLMServingSim's files: profiles, runs of its bench, workloads, and folders that hold all three.

Source: ``profiler/``, ``bench/`` and ``workloads/`` of that project's repository. Importers and the
profile source are registered like anybody's; ``gpusim published`` reads its folders through
`published_run` and `inputs`.
"""
