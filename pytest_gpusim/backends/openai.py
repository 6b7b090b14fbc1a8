"""The openai backend: replay a workload against any OpenAI-compatible server.

Parameters (``--param NAME=VALUE``, ``params=``): ``url``, also ``--url``; ``api_key_env``, the
environment variable that holds the key; ``served_model``, the model's name at the server;
``timeout``, seconds for each request; ``max_concurrency``, requests under way at once;
``tokenizer``, a local one, for servers that refuse token ids; ``device_name`` of a remote machine;
``warmup``, ``no`` to skip it.

The key is read from the environment, sent, and kept nowhere.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_gpusim.artifacts import require_vacant, utc_now
from pytest_gpusim.backends.openai_options import Options
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import require_package
from pytest_gpusim.registry import MeasureInputs
from pytest_gpusim.runs import write_run
from pytest_gpusim.workload.prompts import load_tokenizer, token_ids

if TYPE_CHECKING:
    from pytest_gpusim.backends.openai_replay import Replay
    from pytest_gpusim.backends.openai_server import Dialect, PromptForm, Server, ServerFacts
    from pytest_gpusim.workload import WorkloadRequest

_WARMUP_SALT = 1
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def measure(inputs: MeasureInputs) -> None:
    """Measure ``inputs.workload`` on a server, once per entry of ``inputs.out_dirs``.

    Requests that fail become ``error`` rows. Engine settings are what the server tells of itself;
    the rest is taken from ``inputs.engine``; where they differ, the server is right.

    Raises:
        UsageError: A parameter cannot be, or a request is too long.
        EngineError: No server answers, or it cannot be asked for completions.
    """
    require_package("aiohttp", "server", "the openai backend")
    options = Options.read(inputs.params)
    inputs.workload.require_fits(inputs.engine.max_model_len)
    for out in inputs.out_dirs:
        require_vacant(out)
    asyncio.run(_measure(inputs, options))


async def _measure(inputs: MeasureInputs, options: Options) -> None:
    import aiohttp

    from pytest_gpusim.backends.openai_server import Server

    # The project's own limit is the only one: a client's hidden queue would look like the server's.
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(
        connector=connector,
        headers=options.headers(),
        timeout=aiohttp.ClientTimeout(total=None),
        read_bufsize=1 << 20,
    ) as session:
        server = Server(session, options.root, options.scrub)
        facts = await server.facts(inputs.model.name, options.served_model)
        engine, overruled = _merge(facts.settings, inputs.engine)
        for key, value in overruled.items():
            said = engine.to_json()[key]
            print(f"gpusim: {options.root} says {key}={said}, not {value}", file=sys.stderr)
        inputs.workload.require_fits(engine.max_model_len)
        measurement = _Measurement(inputs, options, server, facts, engine)
        await measurement.prepare()
        for out in inputs.out_dirs:
            await measurement.run(out)


class _Measurement:
    """The passes of one workload over one server: warm-up first, then the measured ones."""

    def __init__(
        self,
        inputs: MeasureInputs,
        options: Options,
        server: Server,
        facts: ServerFacts,
        engine: EngineSettings,
    ) -> None:
        self._inputs = inputs
        self._options = options
        self._server = server
        self._facts = facts
        self._engine = engine
        self._dialect: Dialect
        self._exact = False
        self._warmup: dict[str, Any] = {"passes": 0, "requests": 0}

    async def prepare(self) -> None:
        """Agree on how to ask, and warm the server up with other prompts of the same lengths."""
        probes: dict[PromptForm, list[int] | str] = {"token_ids": [3, 4, 5, 6]}
        text = self._texts(0)
        if text is not None:
            probes["text"] = next(iter(text.values()))
        self._dialect, self._exact = await self._server.agree(
            self._facts.model_id, probes, self._options.timeout_s
        )
        if self._options.warmup:
            begun = asyncio.get_running_loop().time()
            replay = await self._replay(_WARMUP_SALT, skip_idle=True)
            failed = sum(answer.error is not None for answer in replay.answers.values())
            self._warmup = {
                "passes": 1,
                "requests": len(replay.answers),
                "failed": failed,
                "token_ids": "others, of the same lengths and sharing",
                "seconds": round(asyncio.get_running_loop().time() - begun, 3),
            }

    async def run(self, out: Path) -> None:
        """One measured pass, written at ``out``."""
        was_reset = await self._server.reset_prefix_cache()
        # What cannot be forgotten must not be met again: other token ids in every pass.
        salt = 0 if was_reset else secrets.randbits(31) | 2
        started = utc_now()
        replay = await self._replay(salt)
        from pytest_gpusim.backends.openai_rows import lateness, request_rows, timing, token_rows

        requests = self._inputs.workload.requests
        timed = timing(replay)
        write_run(
            out,
            requests=request_rows(requests, replay),
            tokens=token_rows(requests, replay) if timed["token_times"] else None,
            meta={
                "run_type": "real",
                "backend": "openai",
                "model": self._inputs.model.name,
                "model_shape": self._inputs.model.to_json(),
                "hardware": self._inputs.hardware.name,
                "device_name": self._device_name(),
                "workload_dir": str(self._inputs.workload.path),
                "workload_digest": self._inputs.workload.digest,
                "engine": self._engine.to_json(),
                "started_at": started,
                "ended_at": utc_now(),
                "params": {
                    **self._options.to_json(),
                    "clock": "client",
                    "prompts": self._dialect.prompt,
                    "prompt_salt": salt,
                    "exact_length": list(self._dialect.exact_length) if self._exact else None,
                    "asked_engine": self._inputs.engine.to_json(),
                    "told_by_server": self._facts.settings.to_json(),
                    "model_at_server": self._facts.model_id,
                    **timed,
                },
                "warmup": self._warmup,
                "lateness": lateness(requests, replay),
                "prefix_cache_reset": was_reset,
            },
        )

    async def _replay(self, salt: int, *, skip_idle: bool = False) -> Replay:
        from pytest_gpusim.backends.openai_replay import replay

        return await replay(
            self._server.session,
            self._server.completions,
            self._inputs.workload.requests,
            self._payloads(salt),
            timeout_s=self._options.timeout_s,
            max_concurrency=self._options.max_concurrency,
            skip_idle=skip_idle,
            scrub=self._options.scrub,
        )

    def _payloads(self, salt: int) -> Callable[[WorkloadRequest], bytes]:
        prompts: Mapping[int, list[int] | str]
        if self._dialect.prompt == "token_ids":
            prompts = token_ids(self._inputs.workload, self._inputs.model.vocab_size, salt=salt)
        else:
            prompts = self._texts(salt) or {}

        def payload_of(request: WorkloadRequest) -> bytes:
            body = self._dialect.payload(
                self._facts.model_id, prompts[request.prompt_id], request.num_decode_tokens
            )
            return json.dumps(body).encode()

        return payload_of

    def _texts(self, salt: int) -> dict[int, str] | None:
        """Prompts as text; None without a tokenizer, where not every prompt is one."""
        workload = self._inputs.workload
        if self._options.tokenizer is not None:
            tokenizer = load_tokenizer(self._options.tokenizer)
            ids = token_ids(workload, self._inputs.model.vocab_size, salt=salt)
            return {prompt_id: tokenizer.decode(tokens) for prompt_id, tokens in ids.items()}
        texts = {p.prompt_id: p.text for p in (workload.prompts or {}).values()}
        known = {prompt_id: text for prompt_id, text in texts.items() if text is not None}
        return known if known and len(known) == len(texts) else None

    def _device_name(self) -> str | None:
        """The device, where it is stated or can only be this machine's."""
        if self._options.device_name is not None:
            return self._options.device_name
        here = urlsplit(self._options.root).hostname in _LOOPBACK
        return self._inputs.hardware.present_device() if here else None


def _merge(told: EngineSettings, asked: EngineSettings) -> tuple[EngineSettings, dict[str, Any]]:
    """What the server tells, the rest as stated by the user; and what of the latter it denies."""
    known = told.to_json()
    overruled = {
        key: value for key, value in asked.to_json().items() if known.get(key, value) != value
    }
    return told.merged(asked), overruled
