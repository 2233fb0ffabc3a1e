"""What the docs say about adopted networks, from the file of a benchmark."""

import json
import pathlib

from ood_keras import calibration
from ood_keras.inference.file_formats import CHOICES
from ood_keras.study import markdown
from ood_keras.types import Json
from ood_keras.workflows import conversion

_FORMATS = (*CHOICES, "browser")
# Of the pictures that the threshold was chosen on.
_SHARES = ("accepted_when_chosen", "accepted_as_files", "decided_alike")


def page(path: pathlib.Path) -> str:
    """Returns the text of `docs/adopted.md`.

    Args:
        path: What `benchmarks/adopt.py` wrote, as the page should name it from the
            repository's root.
    """
    result = json.loads(path.read_text(encoding="utf-8"))
    networks = result["networks"]
    return markdown.render(
        "adopted",
        folder=path,
        result=result,
        target=calibration.TARGET_ACCEPTANCE,
        costs=_list_costs(networks),
        checks=_list_checks(networks),
        changed=[
            {"name": name, **entry["promise"]}
            for name, entry in networks.items()
            if entry["promise"]["decided_alike"] < 1
        ],
        formats=_list_formats(networks),
        coarse=_list_coarse(networks),
        left_out=_list_left_out(networks),
    )


def _list_costs(networks: Json) -> markdown.Table:
    """What each took."""
    rows = []
    for name, entry in networks.items():
        pictures = entry["pictures"]
        counts = [
            " + ".join(str(count) for count in pictures[part].values())
            for part in ("known", "unknown")
        ]
        rows.append(
            [
                name,
                f"{entry['parameters']:,}",
                str(entry["side"]),
                *counts,
                str(entry["detectors"]),
                f"{entry['processor_seconds'] / 60:.1f}",
                f"{entry['seconds'] / 60:.1f}",
                f"{entry['peak_memory_mb'] / 1024:.1f}",
                f"{entry['load_average']:.1f}",
            ]
        )
    header = [
        "network",
        "parameters",
        "px",
        "known pictures",
        "unknown pictures",
        "detectors",
        "processor minutes",
        "minutes",
        "GiB",
        "load",
    ]
    return markdown.Table(header, rows)


def _list_checks(networks: Json) -> markdown.Table:
    """What was found, and whether it holds."""
    rows = []
    for name, entry in networks.items():
        promise = entry["promise"]
        rows.append(
            [
                name,
                entry["pixels"],
                entry["selected_detector"],
                "yes" if entry["file_unchanged"] else "NO",
                f"{entry['largest_difference']:.0e}",
                f"{promise['pictures']:,}",
                *(markdown.format_percent(promise[share]) for share in _SHARES),
                f"{entry['new_known_accepted']} of {entry['new_known_files']}",
            ]
        )
    header = [
        "network",
        "takes pixels",
        "detector",
        "file unchanged",
        "largest difference of probabilities",
        "calibration files",
        "accepted when chosen",
        "accepted as files",
        "decided alike",
        "new known files accepted",
    ]
    return markdown.Table(header, rows, num_texts=3)


def _list_formats(networks: Json) -> markdown.Table:
    """The share of pictures that each format decides as the SavedModel does."""
    rows = []
    for name, entry in networks.items():
        written = entry["formats"]
        rows.append([name, *(_cell(written, form) for form in _FORMATS)])
    return markdown.Table(["network", *_FORMATS], rows)


def _cell(written: Json, form: str) -> str:
    if form not in written:
        return markdown.MISSING
    if not written[form]:  # It is made of others.
        return "yes"
    return markdown.format_percent(written[form]["equal_decisions"])


def _list_coarse(networks: Json) -> list[str]:
    """Formats that decide many pictures otherwise, of each network that has some."""
    found = []
    for name, entry in networks.items():
        shares = {
            form: written["equal_decisions"]
            for form, written in entry["formats"].items()
            if written and written["equal_decisions"] < conversion.USUAL_SHARE
        }
        if shares:
            texts = [
                f"{form} {markdown.format_percent(share)} %"
                for form, share in shares.items()
            ]
            found.append(f"{name} {', '.join(texts)}")
    return found


def _list_left_out(networks: Json) -> list[str]:
    """Sentences about formats that were not written."""
    return [
        f"{name}, {form}: {why}"
        for name, entry in networks.items()
        for form, why in entry["formats_left_out"].items()
    ]
