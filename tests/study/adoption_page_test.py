"""The page of adopted networks; numbers are invented."""

import json

from ood_keras.study import adoption_page


def write(folder):
    entry = {
        "parameters": 1234567,
        "side": 224,
        "pictures": {
            "known": {"train": 40, "validation": 20, "test": 21},
            "unknown": {"train": 6, "validation": 3, "test": 3},
        },
        "seconds": 90,
        "processor_seconds": 66,
        "peak_memory_mb": 1536,
        "load_average": 7.25,
        "file_unchanged": True,
        "largest_difference": 3.2e-6,
        "pixels": "-1,1",
        "detectors": 24,
        "selected_detector": "knn",
        "promise": {
            "pictures": 20,
            "accepted_when_chosen": 1.0,
            "accepted_as_files": 0.95,
            "decided_alike": 0.95,
        },
        "new_known_files": 21,
        "new_known_accepted": 19,
        "formats": {
            "float32": {"equal_decisions": 1.0, "bytes": 5},
            "int8": {"equal_decisions": 0.9876, "bytes": 5},
            "browser": {},
        },
        "formats_left_out": {"onnx": "an operator is missing"},
    }
    alike = {
        "pictures": 1000,
        "accepted_when_chosen": 0.955,
        "accepted_as_files": 0.955,
        "decided_alike": 1.0,
    }
    changed = {**entry, "file_unchanged": False, "formats_left_out": {}}
    changed["promise"] = alike
    result = {
        "networks": {"small": entry, "other": changed},
        "left_out": ["a ViT"],
        "machine": {"processor": "made up", "cores": 2},
    }
    path = folder / "adopt.json"
    path.write_text(json.dumps(result))
    return path


def test_every_network_has_a_row_in_every_table(tmp_path):
    text = adoption_page.page(write(tmp_path))
    tables = {}
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if cells[0] == "network":
                header = cells
            elif cells[0] in ("small", "other"):
                rows = tables.setdefault(cells[0], {})
                rows |= dict(zip(header[1:], cells[1:], strict=True))
    small = tables["small"]
    assert small["parameters"] == "1,234,567"
    assert small["known pictures"] == "40 + 20 + 21"
    assert small["processor minutes"] == "1.1"
    assert small["minutes"] == "1.5" and small["GiB"] == "1.5"
    assert small["load"] == "7.2"
    assert small["takes pixels"] == "-1,1" and small["detector"] == "knn"
    assert small["file unchanged"] == "yes"
    assert tables["other"]["file unchanged"] == "NO"
    assert small["largest difference of probabilities"] == "3e-06"
    assert small["calibration files"] == "20"
    assert tables["other"]["calibration files"] == "1,000"
    assert small["accepted when chosen"] == "100.00"
    assert small["accepted as files"] == small["decided alike"] == "95.00"
    assert tables["other"]["decided alike"] == "100.00"
    assert "**Of small, 95.00 % of these files are decided alike**" in text
    assert "**Of other" not in text
    assert small["new known files accepted"] == "19 of 21"
    assert small["float32"] == "100.00" and small["int8"] == "98.76"
    assert small["browser"] == "yes"
    assert small["onnx"] == small["float16"] == "–"  # noqa: RUF001
    assert "* Not written: small, onnx: an operator is missing" in text
    assert "for lack of time: a ViT. `--networks=NAME`" in text
