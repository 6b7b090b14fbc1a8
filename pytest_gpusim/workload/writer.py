"""Writing a workload directory: whole or not at all, the same requests giving the same bytes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import atomic_directory, provenance, utc_now
from pytest_gpusim.errors import UsageError
from pytest_gpusim.json_documents import write_json
from pytest_gpusim.workload.load import (
    SESSIONS,
    Load,
    SessionTurn,
    read_sessions,
    write_sessions,
)
from pytest_gpusim.workload.prompts import Prompt, check_prefixes, write_prompts
from pytest_gpusim.workload.trace import (
    INTERVALS,
    LENGTHS,
    META,
    OUTPUTS,
    PROMPTS,
    SCHEMA_VERSIONS,
    WorkloadRequest,
    check_prompts,
    digest_of,
    read_workload,
)


def write_workload(
    out: Path,
    requests: Sequence[WorkloadRequest],
    prompts: Mapping[int, Prompt] | None,
    *,
    name: str,
    seed: int | None,
    generator: Mapping[str, Any],
    model: str | None = None,
    tokenizer_ref: str | None = None,
    outputs: Sequence[Sequence[int]] | None = None,
    load: Load | None = None,
    sessions: Mapping[int, SessionTurn] | None = None,
    refused: Collection[int] = (),
) -> None:
    """Write a workload directory at ``out``, whole or not at all.

    Args:
        out: An absent or empty directory.
        requests: In order of arrival, ids 0..N-1.
        prompts: Contents by prompt id, or None where no prompt shares anything.
        name: What ``workload_id`` begins with.
        seed: The generator's seed, where there is one.
        generator: How the workload came to be, as JSON values.
        model: The model that it was made for, where it matters (token ids).
        tokenizer_ref: The tokenizer of text prompts.
        outputs: Token ids that each request generated, where known; kept in ``outputs.jsonl``,
            which the digest does not cover.
        load: How many requests may be under way at once; None is an open loop.
        sessions: Places in conversations by request id, where there are any.
        refused: Requests that the server refused: they keep their ids and are not simulated.
    """
    if not requests:
        raise UsageError("a workload needs at least one request")
    with atomic_directory(out) as partial:
        _write_requests(partial, requests)
        if prompts is not None:
            write_prompts(partial / PROMPTS, prompts)
        if outputs is not None:
            with (partial / OUTPUTS).open("w", newline="") as lines:
                for number, ids in enumerate(outputs):
                    document = {"request_id": number, "token_ids": list(ids)}
                    lines.write(json.dumps(document, separators=(",", ":")) + "\n")
        if sessions:
            write_sessions(partial / SESSIONS, sessions)
            read_sessions(partial / SESSIONS, len(requests))
        load = load or Load()
        digest = digest_of(partial, load, refused)
        beyond_first: dict[str, Any] = {} if load.is_open else {"load": load.to_json()}
        if refused:
            beyond_first["refused"] = sorted(refused)
        paths = {
            "lengths": LENGTHS,
            "intervals": INTERVALS,
            "prompts": PROMPTS if prompts is not None else None,
            "outputs": OUTPUTS if outputs is not None else None,
        }
        if sessions:
            paths["sessions"] = SESSIONS
        made = provenance()
        write_json(
            partial / META,
            {
                "schema_version": SCHEMA_VERSIONS[bool(beyond_first or sessions)],
                "workload_id": f"{name}-{digest[:12]}",
                "model": model,
                "seed": seed,
                "tokenizer_ref": tokenizer_ref,
                "created_at": utc_now(),
                "git_commit": made["git_commit"],
                "tool_version": made["tool_version"],
                "paths": paths,
                **beyond_first,
                "generator": dict(generator),
                "digest": digest,
            },
        )
        if not _sound(requests):
            read_workload(partial)  # names what is wrong
        check_prefixes(partial / PROMPTS, prompts or {})
        check_prompts(partial, requests, prompts, sessions or {})


def _write_requests(directory: Path, requests: Sequence[WorkloadRequest]) -> None:
    with (directory / LENGTHS).open("w", newline="") as stream:
        stream.write("request_id,prompt_id,num_prefill_tokens,num_decode_tokens\n")
        stream.writelines(f"{r},{prompt},{p},{d}\n" for r, prompt, p, d, _ in requests)
    with (directory / INTERVALS).open("w", newline="") as stream:
        stream.write("request_id,inter_arrival_ns,arrival_time_ns\n")
        before = 0
        for request_id, _, _, _, arrival in requests:
            stream.write(f"{request_id},{arrival - before},{arrival}\n")
            before = arrival


def _sound(requests: Sequence[WorkloadRequest]) -> bool:
    """Whether these requests surely read back as they are; much quicker than reading them."""
    before = 0
    for number, request in enumerate(requests):
        request_id, prompt_id, prefill, decode, arrival = request
        if request_id != number or prompt_id < 0 or prefill < 1 or decode < 1:
            return False
        if arrival < before or not all(type(value) is int for value in request):
            return False
        before = arrival
    return True
