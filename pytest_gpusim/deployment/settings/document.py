"""The settings table as a document: ``python -m pytest_gpusim.deployment.settings.document``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_gpusim.deployment.settings.lookup import modelled
from pytest_gpusim.deployment.settings.setting import Setting
from pytest_gpusim.deployment.settings.table import SETTINGS

BEGIN, END = "<!-- from the code -->", "<!-- to here -->"


def tables() -> str:
    """The generated part of ``docs/settings.md``."""
    parts = [
        "## Followed",
        "",
        "| setting | value | what it is | default where nobody states it |",
        "| --- | --- | --- | --- |",
        *map(_followed, modelled()),
        "",
        "## Not modelled",
        "",
        "| setting | refused unless | what is not modelled |",
        "| --- | --- | --- |",
        *map(_refused, (setting for setting in SETTINGS if setting.role == "refused")),
        "",
        "## Measured by the profile, or of no concern",
        "",
        "| why nothing follows from it | settings |",
        "| --- | --- |",
        *_left_out(s for s in SETTINGS if s.role in ("profiled", "ignored")),
    ]
    return "\n".join(parts)


def _names(setting: Setting) -> str:
    flags = [f"-{flag}" for flag in setting.flags]
    return ", ".join(f"`{name}`" for name in (*setting.spellings, *flags))


def _followed(setting: Setting) -> str:
    default = setting.default
    words = f"{default.words} (`{default.source}`)" if default is not None else ""
    kind = setting.kind if setting.values is None else " or ".join(f"`{v}`" for v in setting.values)
    mirrored = "" if setting.mirrored else "; not compared"
    return f"| {_names(setting)} | {kind} | {setting.words}{mirrored} | {words} |"


def _refused(setting: Setting) -> str:
    harmless = " or ".join(f"`{value}`" for value in setting.harmless)
    if setting.unless is not None:
        condition = " ".join((setting.unless.__doc__ or "").split("\n")[0].split()).rstrip(".")
        harmless = "; ".join(text for text in (harmless, condition) if text)
    words = setting.words.removesuffix(" is").removesuffix(" are")
    return f"| {_names(setting)} | {harmless} | {words} |"


def _left_out(settings: Iterable[Setting]) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for setting in settings:
        by_reason.setdefault(setting.words, []).append(f"`{setting.name}`")
    for reason, names in by_reason.items():
        yield f"| {reason} | {', '.join(sorted(names))} |"


if __name__ == "__main__":
    print(tables())
