"""Whether a browser decides as the SavedModel: 1,000 pictures, two runtimes.

  make browser
  python benchmarks/browser.py --data_dir=DATA --output=benchmarks/results/browser.json

Converts a shipped model with `export.browser`, serves the folder and lets a headless
Chromium answer about known and unknown test pictures, half and half: as pixels, and as
PNG files, which the page decodes itself. Times are those of this machine, of one thread
of WebAssembly. It fails if a decision differs that does not hang on rounding, and then
writes nothing.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/export"))
_NEAR = 1e-4


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mnist")
    parser.add_argument("--known", default="mnist")
    parser.add_argument("--unknown", default="notmnist")
    parser.add_argument("--data_dir")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--output", type=pathlib.Path)
    arguments = parser.parse_args()
    # After the flags, so that --help is instant.
    import browser_runs
    import numpy as np
    from provenance import provenance

    from ood_keras import export, pipelines
    from ood_keras.files import write_json

    packages, reason = browser_runs.find_packages()
    if reason:
        parser.error(reason)
    predictor = export.load(arguments.model)
    known = pipelines.load(arguments.known, data_dir=arguments.data_dir)
    unknown = pipelines.load(
        arguments.unknown, data_dir=arguments.data_dir, known=known
    )
    half = arguments.count // 2
    pixels = np.concatenate(
        [split.take(half, seed=0).images for split in (known.test, unknown.test)]
    )
    images = pixels.astype(np.float32) / 255
    expected = predictor.predict(images)
    validation = known.validation.take(500).images.astype(np.float32) / 255
    entries, sizes = [], {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        options = {"known_images": validation}
        export.tflite(arguments.model, folder / "tflite", formats="float32", **options)
        export.onnx(arguments.model, folder / "onnx", **options)
        page = export.browser(
            folder / "page", tflite=folder / "tflite/float32", onnx=folder / "onnx"
        )
        for file in json.loads((page / "labels.json").read_text())["runtimes"].values():
            sizes[file["file"]] = (page / file["file"]).stat().st_size
        browser_runs.put_pictures(page, pixels)
        with browser_runs.serve(page, packages) as address:
            for runtime in browser_runs.PACKAGES:
                for what in ("pixels", "files"):
                    # A page of its own, so that loading is not from the cache.
                    with browser_runs.open_page(address) as opened:
                        answer, loaded, times = browser_runs.ask(
                            opened, runtime, what, len(pixels)
                        )
                    entries.append(
                        {
                            "runtime": runtime,
                            "given": what,
                            **compare(answer, expected, predictor.threshold),
                            "seconds_to_load": round(loaded, 2),
                            "median_ms": round(float(np.median(times)) * 1000, 2),
                        }
                    )
                    print(entries[-1], flush=True)
    clear = sum(entry["differing_beyond_rounding"] for entry in entries)
    if clear:
        raise SystemExit(f"{clear} pictures are decided otherwise; nothing was written")
    versions = {
        name: json.loads((packages / name / "package.json").read_text())["version"]
        for name in browser_runs.PACKAGES.values()
    }
    chromium = subprocess.run(
        [browser_runs.find_browser(), "--version"], capture_output=True, text=True
    ).stdout.strip()
    result = {
        "model": arguments.model,
        "known": arguments.known,
        "unknown": arguments.unknown,
        "pictures": len(pixels),
        "accepted_by_saved_model": int(expected["accepted"].sum()),
        "file_bytes": sizes,
        "answers": entries,
        "browser": {"chromium": chromium, **versions},
        **provenance("tensorflow", "onnx", "tf2onnx"),
    }
    if arguments.output:
        write_json(arguments.output, result)


def compare(answer, expected, threshold):
    """How many decisions are equal, and by how much scores differ, relative to 1."""
    import numpy as np

    difference = np.abs(answer["ood_score"] - expected["ood_score"])
    equal = (answer["class_id"] == expected["class_id"]) & (
        answer["label"] == expected["label"]
    )
    near = np.abs(expected["ood_score"] - threshold) <= _NEAR * max(1, abs(threshold))
    return {
        "equal_decisions": int(equal.sum()),
        "differing_beyond_rounding": int((~equal & ~near).sum()),
        "largest_score_difference": float(
            (difference / np.maximum(1, np.abs(expected["ood_score"]))).max()
        ),
    }


if __name__ == "__main__":
    main()
