"""How much memory this process holds and has held at most, in bytes.

Linux keeps a high-water mark in /proc/self/status that writing 5 to /proc/self/clear_refs sets back to the present
(proc(5)); `ru_maxrss` and the marks of macOS and Windows never go back, so there a peak counts from the start of the
process: measure in a fresh one.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def reset_peak() -> bool:
    """Let the peak count from now on; False where the system cannot."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return False
    return True


def peak() -> int:
    """The most that was resident at once since the process began, or since `reset_peak`."""
    return _linux("VmHWM") or _elsewhere()


def resident() -> int:
    """What is resident now (the peak so far, where the system tells nothing else)."""
    return _linux("VmRSS") or _elsewhere()


def status_bytes(text: str, key: str) -> int | None:
    """An entry of /proc/self/status's text, or None."""
    for line in text.splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return None


def _linux(key: str) -> int | None:
    return status_bytes(_STATUS.read_text(), key) if _STATUS.exists() else None


def _elsewhere() -> int:
    if sys.platform == "win32":
        return _windows()
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _windows() -> int:
    """PeakWorkingSetSize of PROCESS_MEMORY_COUNTERS (psapi.h): two 32-bit fields, then sizes."""
    counters = (ctypes.c_size_t * 9)()
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), ctypes.sizeof(counters))
    return int(counters[1])
