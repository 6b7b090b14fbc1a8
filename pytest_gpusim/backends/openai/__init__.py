"""The openai backend: replay a workload against any OpenAI-compatible server."""
