"""What this process runs on."""

import os
import pathlib
import platform
import re
import sys


def num_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Returns the processor's name, as far as the system tells it."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*:\s*(.+)", text).group(1)  # type: ignore[union-attr]
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def peak_memory() -> int:
    """Returns the most memory that this process has had, in bytes; 0 if nobody says."""
    try:
        # What `resource` says on Linux begins with the memory of the process that
        # started this one, which would hide all that is less.
        text = pathlib.Path("/proc/self/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", text).group(1))  # type: ignore[union-attr]
    except (OSError, AttributeError):
        pass
    try:
        import resource
    except ImportError:  # Windows has none.
        return 0
    # macOS counts in bytes, others in KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
