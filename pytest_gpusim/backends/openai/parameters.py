"""What the backend ``openai`` takes beside engine settings."""

from __future__ import annotations

from pytest_gpusim.parameters import Parameter

PARAMETERS = (
    Parameter("url", "text", "the server, http://HOST:PORT; also --url"),
    Parameter(
        "api_key_env", "text", "the environment variable that holds the key", "OPENAI_API_KEY"
    ),
    Parameter("served_model", "text", "the model's name at the server"),
    Parameter("timeout", "number", "seconds for each request", 600.0),
    Parameter("max_concurrency", "integer", "requests under way at once, beside an open loop"),
    Parameter("tokenizer", "text", "a local tokenizer, for servers that refuse token ids"),
    Parameter("device_name", "text", "the device of a server on another machine"),
    Parameter("warmup", "yes or no", "whether the workload runs once before it is measured", True),
)
