"""What an exported model promises, and what speaks against it, in words."""

from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.evaluation import verdict
from ood_keras.inference import manifest
from ood_keras.types import Json, Path


def describe_thresholds(path: Path, threshold: AnyThreshold) -> str:
    """What the thresholds of a model that was written promise, a paragraph for each.

    Args:
        path: The version folder.
        threshold: What it decides by.
    """
    points = manifest.read(path)["operating_points"]
    others = (f"{name}: {point['guarantee']}" for name, point in points.items())
    return "\n".join([str(threshold), *others])


def describe_verdict(path: Path) -> str:
    """The verdict that the manifest of an exported model holds, or nothing.

    Args:
        path: The version folder.
    """
    found = read_verdict(path)
    return verdict.format_json(found) if found else ""


def read_verdict(path: Path) -> Json | None:
    """The same as JSON, `None` where there is none."""
    return (manifest.read(path).get("at_threshold") or {}).get("verdict")
