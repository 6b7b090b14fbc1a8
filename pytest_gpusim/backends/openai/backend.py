"""The openai backend: replay a workload against any OpenAI-compatible server.

The key is read from the environment, sent, and kept nowhere.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import require_vacant, utc_now
from pytest_gpusim.backends.openai.options import Options
from pytest_gpusim.backends.openai.parameters import PARAMETERS
from pytest_gpusim.backends.openai.prompts import PROBES, Prompts
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.parameters import read_parameters
from pytest_gpusim.progress import Progress
from pytest_gpusim.providers import MeasureInputs
from pytest_gpusim.runs import read_run, write_run
from pytest_gpusim.runs.clocks import both_clocks
from pytest_gpusim.runs.records import request_rows, stated_load, token_rows
from pytest_gpusim.workload import Load
from pytest_gpusim.workload.contexts import Contexts
from pytest_gpusim.workload.token_ids import continuations

if TYPE_CHECKING:
    from pytest_gpusim.backends.openai.dialect import Dialect
    from pytest_gpusim.backends.openai.replay import Replay
    from pytest_gpusim.backends.openai.server import Server, ServerFacts
    from pytest_gpusim.workload import Workload, WorkloadRequest

_WARMUP_SALT = 1


def measure(inputs: MeasureInputs) -> None:
    """Measure ``inputs.workload`` on a server, once per entry of ``inputs.out_dirs``.

    Requests that fail become ``error`` rows. Engine settings are what the server tells of itself;
    the rest is taken from ``inputs.engine``; where they differ, the server is right.

    Raises:
        UsageError: A parameter cannot be, a request is too long, the server runs with what is not
            modelled, or would meet the same prompts again and find them in its prefix cache.
        EngineError: No server answers, or it cannot be asked for completions.
    """
    params = read_parameters(PARAMETERS, inputs.params, "the openai backend")
    options = Options.read(params)
    inputs.workload.require_fits(inputs.engine.max_model_len)
    for out in inputs.out_dirs:
        require_vacant(out)
    asyncio.run(_measure(inputs, options))


async def _measure(inputs: MeasureInputs, options: Options) -> None:
    import aiohttp

    from pytest_gpusim.backends.openai.server import Server

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
            _say(f"{options.root} says {key}={said}, not {value}")
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
        self._prompts = Prompts(inputs.workload, inputs.model.vocab_size, options.tokenizer)
        self._dialect: Dialect
        self._exact = False
        self._renewable = True
        self._sent = False
        self._warmup: dict[str, Any] = {"passes": 0, "requests": 0}
        self._load = _load_of(inputs.workload, options.max_concurrency)
        self._ids_told = False
        self._answers: dict[str, Any] = {}

    async def prepare(self) -> None:
        """Agree on how to ask, and warm the server up."""
        from pytest_gpusim.backends.openai.dialect import agree

        self._dialect, self._exact = await agree(
            self._server.session,
            self._server.completions,
            self._facts.model_id,
            {form: PROBES[form] for form in self._prompts.forms},
            timeout_s=self._options.timeout_s,
            scrub=self._options.scrub,
        )
        self._renewable = self._prompts.renewable(self._dialect.prompt)
        await self._see_to_answers()
        hot = await self._would_be_hot()
        if hot and len(self._inputs.out_dirs) > 1:
            raise UsageError(f"{hot}: give --param tokenizer=FILE, or measure once (--repeat 1)")
        if hot and self._options.warmup:
            _say(f"no warm-up: {hot}; --param tokenizer=FILE makes other ones")
            self._warmup["skipped"] = hot
        elif self._options.warmup:
            await self._warm_up()

    async def _see_to_answers(self) -> None:
        """Where turns go on from answers: see whether the server tells their token ids."""
        if not continuations(self._inputs.workload):
            return
        from pytest_gpusim.backends.openai.dialect import tells_token_ids

        self._ids_told = self._dialect.prompt == "token_ids" and await tells_token_ids(
            self._server.session,
            self._server.completions,
            self._facts.model_id,
            self._dialect,
            PROBES[self._dialect.prompt],
            timeout_s=self._options.timeout_s,
        )
        self._answers["answers_in_context"] = "as generated" if self._ids_told else "made up"
        if not self._ids_told:
            _say(
                f"{self._options.root} does not tell token ids, so later turns go on from made-up "
                "answers, which its prefix cache does not have"
            )

    async def _would_be_hot(self) -> str | None:
        """Why the prompts may go to the server once only, in words; None where they may again."""
        if self._independent() or await self._server.reset_prefix_cache():
            return None
        return (
            f"{self._options.root} cannot empty its prefix cache, and text prompts are the same "
            "each time without a tokenizer"
        )

    def _independent(self) -> bool:
        """Whether what was sent before cannot be found in the cache by what is sent next."""
        return self._renewable or self._facts.settings.enable_prefix_caching is False

    async def _warm_up(self) -> None:
        begun = asyncio.get_running_loop().time()
        replay = await self._replay(_WARMUP_SALT, skip_idle=True)
        failed = sum(answer.error is not None for answer in replay.answers.values())
        served = len(replay.answers) - failed
        self._warmup = {
            "passes": 1 if served else 0,
            "requests": served,
            "failed": failed,
            "others": self._renewable,
            "prompts": "others, of the same lengths and sharing"
            if self._renewable
            else "those of the measured passes",
            "seconds": round(asyncio.get_running_loop().time() - begun, 3),
        }

    async def run(self, out: Path) -> None:
        """One measured pass, written at ``out``."""
        was_reset = await self._server.reset_prefix_cache()
        if self._sent and not (was_reset or self._independent()):
            raise EngineError(f"{self._options.root}: does not empty its prefix cache any more")
        # What cannot be forgotten must not be met again: other prompts in every pass.
        salt = 0 if was_reset or not self._renewable else secrets.randbits(31) | 2
        started = utc_now()
        replay = await self._replay(salt)
        from pytest_gpusim.backends.openai import rows

        requests = self._inputs.workload.requests
        records = rows.records(self._inputs.workload, replay)
        timed = rows.timing(replay)
        lengths = rows.prompt_lengths(requests, replay)
        if lengths["others"]:
            _say(
                f"{self._options.root} counts other prompt lengths than the workload in "
                f"{lengths['others']} of {len(requests)} requests; {out} has the server's"
            )
        write_run(
            out,
            requests=request_rows(records, "openai"),
            tokens=token_rows(records) if timed["token_times"] else None,
            meta={
                "run_type": "real",
                "backend": "openai",
                "clock": "client",
                "model": self._inputs.model.name,
                "model_shape": self._inputs.model.to_json(),
                "hardware": self._inputs.hardware.name,
                "device_name": self._options.device_of(self._inputs.hardware),
                "workload_dir": str(self._inputs.workload.path),
                "workload_digest": self._inputs.workload.digest,
                **stated_load(self._inputs.workload),
                "engine": self._engine.to_json(),
                "started_at": started,
                "ended_at": utc_now(),
                "params": {
                    **self._options.to_json(),
                    "clock": "client",
                    "prompts": self._dialect.prompt,
                    "prompt_salt": salt,
                    "prompt_lengths": lengths,
                    "exact_length": list(self._dialect.exact_length) if self._exact else None,
                    "asked_engine": self._inputs.engine.to_json(),
                    "told_by_server": self._facts.settings.to_json(),
                    "model_at_server": self._facts.model_id,
                    **timed,
                    **self._answers,
                },
                "warmup": self._warmup,
                "lateness": rows.sending(records, replay),
                "prefix_cache_reset": was_reset,
            },
        )
        clocks = both_clocks(read_run(out))
        for line in clocks.lines() if clocks is not None else ():
            _say(f"{out}: {line}")

    async def _replay(self, salt: int, *, skip_idle: bool = False) -> Replay:
        from pytest_gpusim.backends.openai.replay import replay

        self._sent = True
        workload = self._inputs.workload
        contexts = Contexts(
            self._prompts.expanded(self._dialect.prompt, salt),
            continuations(workload) if self._ids_told else {},
        )

        def body_of(request: WorkloadRequest, prompt: list[int] | str) -> bytes:
            body = self._dialect.payload(
                self._facts.model_id,
                prompt,
                request.num_decode_tokens,
                tell_ids=contexts.is_continued(request.request_id),
            )
            return json.dumps(body).encode()

        what = "warm up" if skip_idle else "measure"
        with Progress(what, len(workload.requests), "requests", bar=False) as progress:
            return await replay(
                self._server.session,
                self._server.completions,
                workload,
                contexts,
                body_of,
                timeout_s=self._options.timeout_s,
                load=self._load,
                skip_idle=skip_idle,
                scrub=self._options.scrub,
                heard=progress.advance,
            )


def _load_of(workload: Workload, limit: int | None) -> Load:
    """The workload's own load, or the limit that is asked for besides an open loop."""
    if limit is None:
        return workload.load
    if not workload.is_open_loop:
        raise UsageError(
            f"parameter max_concurrency={limit}: {workload.path} says itself what is sent when; "
            "leave the parameter out"
        )
    return Load(limit)


def _merge(told: EngineSettings, asked: EngineSettings) -> tuple[EngineSettings, dict[str, Any]]:
    """What the server tells, the rest as stated by the user; and what of the latter it denies."""
    known = told.to_json()
    overruled = {
        key: value for key, value in asked.to_json().items() if known.get(key, value) != value
    }
    return told.merged(asked), overruled


def _say(line: str) -> None:
    print(f"gpusim: {line}", file=sys.stderr)
