"""What a committed result must say about where it was measured."""

import importlib.metadata
import os
import platform

from ood_keras import machine


def provenance(*packages):
    """Machine, its load when the measuring began, and versions, a dict for JSON.

    Args:
        packages: Names of distributions to name the versions of, besides ours.
    """
    return {
        "machine": {
            "processor": machine.processor(),
            "cores": machine.num_cores(),
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
