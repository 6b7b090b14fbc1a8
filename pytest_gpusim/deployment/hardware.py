"""Devices: their names, how to recognise them, and what Vidur must be told of them."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Hardware:
    """A device class, such as ``a100``; the marker of the same name selects it.

    ``device_name_pattern`` is a regular expression that is searched for in the device's own name.
    ``memory_gb`` and ``fp16_tflops`` go into Vidur's device SKU (data sheet figures).
    ``memory_gib`` is what CUDA reports as the device's memory, of which a driver keeps some.
    """

    name: str
    kind: DeviceKind
    device_name_pattern: str
    memory_gb: int
    fp16_tflops: int
    memory_gib: float | None = None

    @property
    def usable_memory_gib(self) -> float:
        """What CUDA reports; where that is not stated, the data sheet's less the driver's 1.5%."""
        return self.memory_gib if self.memory_gib is not None else self.memory_gb * 0.985

    def matches(self, device_name: str) -> bool:
        """Whether a device that calls itself ``device_name`` is of this class."""
        return re.search(self.device_name_pattern, device_name, re.IGNORECASE) is not None

    def present_device(self) -> str | None:
        """The name of such a device in this machine, or None."""
        name = detect_device_name(self.kind)
        return name if name is not None and self.matches(name) else None


BUILTIN_HARDWARE = (
    Hardware("cpu", "cpu", r".", memory_gb=64, fp16_tflops=1),
    Hardware("a100", "cuda", r"\bA100(?!\d)", memory_gb=80, fp16_tflops=312, memory_gib=79.25),
    Hardware("h100", "cuda", r"\bH100\b", memory_gb=80, fp16_tflops=989, memory_gib=79.1),
    Hardware("h200", "cuda", r"\bH200\b", memory_gb=141, fp16_tflops=989, memory_gib=139.8),
    Hardware("b200", "cuda", r"\bB200\b", memory_gb=180, fp16_tflops=2250, memory_gib=178.4),
    Hardware("b300", "cuda", r"\bB300\b", memory_gb=288, fp16_tflops=2250, memory_gib=268.6),
    Hardware("gb200", "cuda", r"\bGB200\b", memory_gb=186, fp16_tflops=2500, memory_gib=185.0),
    Hardware("gb300", "cuda", r"\bGB300\b", memory_gb=288, fp16_tflops=2500, memory_gib=277.5),
    Hardware("a40", "cuda", r"\bA40\b", memory_gb=48, fp16_tflops=150, memory_gib=44.4),
    Hardware("l40s", "cuda", r"\bL40S\b", memory_gb=48, fp16_tflops=362, memory_gib=44.4),
    Hardware(
        "rtx4090",
        "cuda",
        r"\bRTX\s*4090\b(?!\s*(D\b|Laptop))",
        memory_gb=24,
        fp16_tflops=165,
        memory_gib=23.52,
    ),
)


def detect_device_name(kind: DeviceKind) -> str | None:
    """This machine's device name: CPU model and usable cores, or the first GPU's own name.

    Needs neither torch nor a CUDA context.
    """
    return _cpu_name() if kind == "cpu" else _gpu_name()


@cache
def _cpu_name() -> str:
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
        model = found.group(1).strip() if found else ""
    model = model or platform.processor() or platform.machine()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"


@cache
def _gpu_name() -> str | None:
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    names = done.stdout.strip().splitlines() if done.returncode == 0 else []
    return names[0].strip() if names else None
