"""What a committed result must say about where it was measured."""

import importlib.metadata
import os
import pathlib
import platform
import re


def provenance(*packages):
    """Machine, its load when the measuring began, and versions, a dict for JSON.

    Args:
        packages: Names of distributions to name the versions of, besides ours.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # Not on every system.
        cores = os.cpu_count()
    return {
        "machine": {
            "processor": _processor(),
            "cores": cores,
            "load_average": round(os.getloadavg()[0], 2),
        },
        "versions": {
            "python": platform.python_version(),
            **{
                name: importlib.metadata.version(name)
                for name in ("ood_keras", *packages)
            },
        },
    }


def _processor():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*:\s*(.+)", text).group(1)
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()
