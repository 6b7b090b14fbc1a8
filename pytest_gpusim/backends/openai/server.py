"""What an OpenAI-compatible server says of itself.

Only `/v1/models` and `/v1/completions` are needed. vLLM also tells its version (`/version`), its KV
cache (`/metrics`) and, in its development mode, everything (`/server_info`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from pytest_gpusim.backends.openai.client import REDIRECTS, elsewhere
from pytest_gpusim.deployment import EngineSettings
from pytest_gpusim.errors import EngineError, UsageError
from pytest_gpusim.limits import RESPONSE_BYTES
from pytest_gpusim.texts import python_literal

_ASK_TIMEOUT_S = 20.0
_CACHE_INFO = re.compile(r"^vllm:cache_config_info\{(.*)\}", re.MULTILINE)


@dataclass(frozen=True)
class ServerFacts:
    """What a server says of itself; ``settings`` holds only what it told."""

    model_id: str
    version: str | None
    settings: EngineSettings


class Server:
    """A server's endpoints, below ``root`` (without ``/v1``)."""

    def __init__(
        self, session: aiohttp.ClientSession, root: str, scrub: Callable[[str], str] = str
    ) -> None:
        self.session = session
        self.root = root
        self._scrub = scrub

    @property
    def completions(self) -> str:
        """The endpoint that is measured."""
        return f"{self.root}/v1/completions"

    async def facts(self, wanted: str, named: str | None) -> ServerFacts:
        """Ask the server what it serves and how.

        Args:
            wanted: The model's name in this project; used where the server has it.
            named: The name that the user gave for the served model.

        Raises:
            EngineError: The server does not answer as one.
            UsageError: It serves another model, or several, or with what is not modelled.
        """
        models = await self._models()
        names = [str(entry.get("id")) for entry in models]
        if named is not None:
            if named not in names:
                raise UsageError(
                    f"{self.root} serves {', '.join(names)}, not {named!r} (served_model)"
                )
            name = named
        elif wanted in names:
            name = wanted
        elif len(names) == 1:
            name = names[0]
        else:
            raise UsageError(
                f"{self.root} serves {', '.join(names)}; name one with --param served_model=NAME"
            )
        length = models[names.index(name)].get("max_model_len")
        version = (await self._json("/version") or {}).get("version")
        version = version if isinstance(version, str) else None
        # Only vLLM answers at /version in this form; so its version picks the scheduling rules.
        settings = EngineSettings(engine_version=version)
        for told in (
            await self._whole_config(),
            await self._cache_config(),
            {"max_model_len": length if type(length) is int else None},
        ):
            found = EngineSettings.from_mapping(told, self.root, strict=False)
            settings = settings.merged(found)
        return ServerFacts(name, version, settings)

    async def reset_prefix_cache(self) -> bool:
        """Empty the prefix cache; False where the server has no way to (vLLM's, SGLang's)."""
        for path in ("/reset_prefix_cache", "/flush_cache"):
            for _ in range(20):
                status, text = await self._post(path)
                if status != 200:
                    break
                if '"success":false' not in text.replace(" ", ""):
                    return True
                await asyncio.sleep(0.1)  # refused while a request is being wound up
        return False

    async def _models(self) -> list[dict[str, Any]]:
        url = f"{self.root}/v1/models"
        try:
            status, text = await self._get("/v1/models")
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            reason = self._scrub(str(error)) or type(error).__name__
            if isinstance(error, TimeoutError):
                reason = f"not to its end within {_ASK_TIMEOUT_S:g} s"
            raise EngineError(f"{url}: no server answers: {reason}") from None
        if status in (401, 403):
            raise EngineError(f"{url}: HTTP {status}: the server wants another API key")
        if status in REDIRECTS:
            raise EngineError(f"{url}: HTTP {status}: {self._scrub(text)}")
        try:
            entries = json.loads(text)["data"] if status == 200 else []
        except (ValueError, KeyError, TypeError, RecursionError):
            entries = []
        listed = entries if isinstance(entries, list) else []
        models = [entry for entry in listed if isinstance(entry, dict) and entry.get("id")]
        if not models:
            raise EngineError(
                f"{url}: HTTP {status}: not the models of an OpenAI-compatible server"
            )
        return models

    async def _cache_config(self) -> dict[str, Any]:
        """The KV cache, from vLLM's metrics."""
        status, text = await self._get_quietly("/metrics")
        found = _CACHE_INFO.search(text) if status == 200 else None
        if found is None:
            return {}
        labels = dict(re.findall(r'\b(\w+)="([^"]*)"', found.group(1)))
        return {"cache_config": {key: python_literal(text) for key, text in labels.items()}}

    async def _whole_config(self) -> dict[str, Any]:
        """All settings, from vLLM's development mode (VLLM_SERVER_DEV_MODE=1)."""
        document = await self._json("/server_info?config_format=json")
        config = (document or {}).get("vllm_config")
        return config if isinstance(config, dict) else {}

    async def _json(self, path: str) -> dict[str, Any] | None:
        status, text = await self._get_quietly(path)
        try:
            document = json.loads(text) if status == 200 else None
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None

    async def _get_quietly(self, path: str) -> tuple[int, str]:
        try:
            return await self._get(path)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, ""

    async def _get(self, path: str) -> tuple[int, str]:
        async with (
            asyncio.timeout(_ASK_TIMEOUT_S),
            self.session.get(self.root + path, allow_redirects=False) as response,
        ):
            if response.status in REDIRECTS:
                return response.status, elsewhere(response)
            return response.status, await _text_of(response)

    async def _post(self, path: str) -> tuple[int, str]:
        try:
            async with (
                asyncio.timeout(_ASK_TIMEOUT_S),
                self.session.post(self.root + path, allow_redirects=False) as response,
            ):
                return response.status, await _text_of(response)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, ""


async def _text_of(response: aiohttp.ClientResponse) -> str:
    """A whole answer, within the limit; of a longer one nothing is believed."""
    limit = RESPONSE_BYTES.value
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > limit:
            raise EngineError(
                f"{response.url}: answers with more than {limit:,} bytes; {RESPONSE_BYTES.advice}"
            )
    return content.decode("utf-8", "replace")
