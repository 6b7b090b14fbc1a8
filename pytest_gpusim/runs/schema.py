"""The Run contract: files, columns, and what is in them. All times in ns from the run's start."""

from __future__ import annotations

REQUESTS, TOKENS, STEPS, BATCHES, META = (
    "request_metrics.csv",
    "token_metrics.csv",
    "step_metrics.csv",
    "step_batches.jsonl",
    "run_meta.json",
)
SCHEMA_VERSIONS = (1, 2)
"""Plain, as the first release reads it (``.gz`` too), and with tables packed as ``.xz``."""
PREDICTION = "prediction.json"
"""Beside a simulated run: its figures with their intervals."""
REQUEST_COLUMNS = (
    "request_id",
    "arrival_time_ns",
    "sent_time_ns",
    "scheduled_time_ns",
    "first_token_time_ns",
    "ttft_ns",
    "completion_time_ns",
    "num_prefill_tokens",
    "num_cached_tokens",
    "num_decode_tokens",
    "num_decode_tokens_actual",
    "status",
    "backend",
    "error_type",
    "error_msg",
)
# After those, where arrivals are the side's own (a limit, conversations): what was asked.
ASKED_COLUMNS = ("due_time_ns", "session_id", "turn", "think_time_ns")
# After those, of a client's run whose server told its own times: queue to first step, to the first
# token, to the last one.
ENGINE_COLUMNS = ("engine_queue_ns", "engine_prefill_ns", "engine_decode_ns")
OPTIONAL_REQUEST_COLUMNS = (
    "sent_time_ns",
    "scheduled_time_ns",
    "num_cached_tokens",
    "backend",
    "error_type",
    "error_msg",
)
INTEGER_REQUEST_COLUMNS = tuple(
    column
    for column in REQUEST_COLUMNS
    if column not in ("status", "backend", "error_type", "error_msg")
)
# Unknown for an error row; sent, scheduled and cached may be unknown for any.
NULLABLE_REQUEST_COLUMNS = (
    "sent_time_ns",
    "scheduled_time_ns",
    "first_token_time_ns",
    "ttft_ns",
    "completion_time_ns",
    "num_cached_tokens",
    "num_decode_tokens_actual",
)
TOKEN_COLUMNS = ("request_id", "token_index", "token_time_ns", "token_latency_ns")
# After those, where the source knows which token it was.
TOKEN_ID = "token_id"
STEP_COLUMNS = (
    "step",
    "start_ns",
    "duration_ns",
    "num_prefill_tokens",
    "num_decode_tokens",
    "num_sequences",
    "running",
    "waiting",
    "kv_blocks_used",
    "preempted",
    "extrapolated",
)
STATUSES = ("ok", "early_stop", "error")
