"""The openai backend's parameters. A key is read from the environment and shown nowhere."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from pytest_gpusim.deployment import Hardware
from pytest_gpusim.errors import UsageError

_DEFAULT_KEY_ENV = "OPENAI_API_KEY"
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Options:
    """The backend's parameters, checked."""

    root: str
    key_env: str | None = None
    key: str | None = field(default=None, repr=False)
    served_model: str | None = None
    timeout_s: float = 600.0
    max_concurrency: int | None = None
    tokenizer: str | None = None
    device_name: str | None = None
    warmup: bool = True

    @classmethod
    def read(cls, params: Mapping[str, Any]) -> Options:
        """Check the parameters, which are in their kinds; raises `UsageError`."""
        key_env, key = _api_key(params.get("api_key_env"))
        return cls(
            root=_root_of(params.get("url")),
            key_env=key_env,
            key=key,
            served_model=params.get("served_model"),
            timeout_s=params.get("timeout", cls.timeout_s),
            max_concurrency=params.get("max_concurrency"),
            tokenizer=params.get("tokenizer"),
            device_name=params.get("device_name"),
            warmup=params.get("warmup", True),
        )

    @property
    def on_this_machine(self) -> bool:
        """Whether the server can only be here: its address is a loopback one."""
        host = urlsplit(self.root).hostname or ""
        try:
            address = ip_address(host)
        except ValueError:
            return host == "localhost"
        return address.is_loopback or address.is_unspecified

    def device_of(self, hardware: Hardware) -> str | None:
        """The server's device, where it is stated or can only be this machine's."""
        if self.device_name is not None:
            return self.device_name
        return hardware.present_device() if self.on_this_machine else None

    def scrub(self, text: str) -> str:
        """``text`` without the key."""
        return text.replace(self.key, "***") if self.key else text

    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def to_json(self) -> dict[str, Any]:
        """What a run records; of the key only the variable's name."""
        return {
            "url": self.root,
            "api_key_env": self.key_env,
            "served_model": self.served_model,
            "timeout": self.timeout_s,
            "max_concurrency": self.max_concurrency,
            "warmup": self.warmup,
        }


def check(params: Mapping[str, Any], hardware: Hardware | None) -> None:
    """Refuse what cannot be measured, before anything is asked of a server.

    Args:
        params: The backend's parameters.
        hardware: What is said to be measured; None where nobody named it.

    Raises:
        UsageError: A parameter is wrong, or nobody says what device the server has.
    """
    options = Options.read(params)
    if hardware is None:
        if not options.on_this_machine:
            raise UsageError(
                f"{options.root} is another machine: say what it has, such as --hardware a100"
            )
    elif options.device_of(hardware) is None:
        raise UsageError(
            f"{options.root}: which {hardware.name} the server has is not known here: give the "
            "backend's parameter device_name, such as 'NVIDIA A100-SXM4-80GB'"
        )


def _root_of(url: Any) -> str:
    if not url:
        raise UsageError("the openai backend needs the server: give --url http://HOST:PORT")
    try:
        parts = urlsplit(str(url))
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # an open bracket, a port that is no number
        whole = False
    if not whole:
        # Not shown: what is no URL may hold a password all the same.
        raise UsageError("--url: expected http://HOST:PORT or https://HOST/PATH")
    if parts.username or parts.password or parts.query:
        raise UsageError("--url: must hold no credentials; put the key into the environment")
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _api_key(name: Any) -> tuple[str | None, str | None]:
    """(variable, key); a variable that was named must be set."""
    key = os.environ.get(str(name or _DEFAULT_KEY_ENV), "").strip()
    if not key and name:
        # Who gives the key itself in its place must not find it in a log.
        shown = f" {name}" if _VARIABLE.fullmatch(str(name)) else ""
        said = f"the environment variable{shown} that api_key_env names is not set"
        raise UsageError(said if shown else f"{said}; give its name, such as {_DEFAULT_KEY_ENV}")
    if not key.isprintable():
        raise UsageError(
            f"the environment variable {name or _DEFAULT_KEY_ENV}: expected a key of one line, "
            "without control characters"
        )
    return (str(name or _DEFAULT_KEY_ENV), key) if key else (None, None)
