"""The machine that figures were measured on: CPU, the instruction sets that matter to int8 kernels, load.

Linux tells in /proc/cpuinfo, macOS through sysctl, Windows through IsProcessorFeaturePresent. What cannot be found
out is left empty; nothing here fails.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from optimizer.report.records import Machine
from optimizer.runtime.engine import ort

ISA_OF_INTEREST = (
    "avx2", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm", "sme",
)  # fmt: skip
"""Names as Linux spells them in /proc/cpuinfo."""

_SYSCTL = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512bw": "avx512bw",
    "hw.optional.avx512vnni": "avx512_vnni",
    "hw.optional.neon": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_SME": "sme",
}

_WINDOWS_FEATURES = {40: "avx2", 41: "avx512f", 19: "asimd", 43: "asimddp", 46: "sve", 47: "sve2", 66: "i8mm"}
"""The numbers PF_..._INSTRUCTIONS_AVAILABLE of winnt.h. There is none for VNNI."""


TARGET_KEY, ANY, WITHOUT_SATURATION = "optimize.target", "any", "no 16-bit saturation"
"""Metadata of a quantized model: which CPUs its weights were rounded for."""


def unsuited(metadata: Mapping[str, str]) -> str | None:
    """Why figures of a model with this metadata may be wrong on this machine; None if nothing speaks against it."""
    if metadata.get(TARGET_KEY) != WITHOUT_SATURATION or has_vnni():
        return None
    return "was quantized for CPUs with VNNI or ARM's dot product: here its int8 sums may overflow; use --target avx2"


def describe(threads: int) -> Machine:
    """The machine as it is now; `threads` is what the measured sessions use."""
    return Machine(
        cpu=cpu_name(),
        isa=instruction_sets(),
        cores=usable_cores(),
        threads=threads,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        onnxruntime=ort.__version__,
        quota=cpu_quota(),
        governor=_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or None,
    )


def has_vnni() -> bool:
    """Whether unsigned times signed int8 is summed without saturating at 16 bits.

    On x86 that takes VNNI or AMX; the kernels for plain AVX2 and AVX-512 saturate. ARM kernels never do.
    """
    found = instruction_sets()
    return "vnni" in " ".join(found) or "amx_int8" in found or platform.machine().lower() in ("aarch64", "arm64")


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Those of `ISA_OF_INTEREST` that the CPU has, in that order."""
    if sys.platform == "darwin":
        found = {name for key, name in _SYSCTL.items() if _sysctl(key) == "1"}
    elif sys.platform == "win32":
        present = ctypes.windll.kernel32.IsProcessorFeaturePresent
        found = {name for number, name in _WINDOWS_FEATURES.items() if present(number)}
    else:
        info = cpuinfo(_text("/proc/cpuinfo"))
        found = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(name for name in ISA_OF_INTEREST if name in found)


@functools.cache
def cpu_name() -> str:
    """The CPU's model name, or its architecture where the system does not tell."""
    if sys.platform == "darwin":
        return _sysctl("machdep.cpu.brand_string") or platform.machine()
    info = cpuinfo(_text("/proc/cpuinfo"))
    return info.get("model name") or info.get("Model") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """The cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota() -> float | None:
    """The cores' worth of time the container may use (cgroup v2, then v1), or None without a limit."""
    words = _text("/sys/fs/cgroup/cpu.max").split()
    if not words:
        words = [_text(f"/sys/fs/cgroup/cpu/cpu.cfs_{name}_us") for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdigit() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def cpuinfo(text: str) -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo's text."""
    entries: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            entries.setdefault(key.strip(), value.strip())
    return entries


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _sysctl(key: str) -> str:
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""
