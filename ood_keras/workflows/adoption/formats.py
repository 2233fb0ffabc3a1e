"""The exported model in every format that can be, and why not in the others."""

import importlib.util
import json
import pathlib
import tempfile
from collections.abc import Callable, Sequence

from ood_keras import export
from ood_keras.files import write_json
from ood_keras.inference.file_formats import FILE_FORMATS, ONNX, TFLITE
from ood_keras.types import Images, Json
from ood_keras.workflows import conversion
from ood_keras.workflows.conversion import BROWSER, FORMATS


def choose(formats: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Which of the formats that were asked for can be written here.

    Args:
        formats: Some of `conversion.FORMATS`; `None` is all of them.

    Returns:
        `(formats, skipped)`: those, and `{format: why not}`.

    Raises:
        ValueError: one is none.
    """
    asked = FORMATS if formats is None else tuple(formats)
    unknown = [name for name in asked if name not in FORMATS]
    if unknown:
        raise ValueError(
            f"formats are some of {', '.join(FORMATS)}; the SavedModel is always "
            f"written. Received: {', '.join(unknown)}"
        )
    chosen, skipped = [], {}
    for name in asked:
        kinds = [kind for kind in FILE_FORMATS if name in kind.choices]
        if name == BROWSER:
            kinds = [TFLITE, ONNX]
        extra = ",".join(kind.name for kind in kinds)
        needed = [package for kind in kinds for package in kind.packages]
        missing = [one for one in needed if importlib.util.find_spec(one) is None]
        if missing:
            skipped[name] = (
                f"{' and '.join(missing)} not installed; pip install '.[{extra}]' in a "
                "checkout, then ood-convert"
            )
        else:
            chosen.append(name)
    return chosen, skipped


def write(
    saved_model: pathlib.Path,
    folder: pathlib.Path,
    formats: Sequence[str],
    exports: Sequence[str],
    known: Images,
    unknown: Images | None,
    say: Callable[[str], None],
) -> tuple[dict[str, pathlib.Path], dict[str, str], list[Json]]:
    """Converts an exported model, each format by itself where they fail together.

    Args:
        saved_model: The version folder.
        folder: Receives `tflite/`, `onnx/` and `browser/`.
        formats: What to write.
        exports: What the detector can be exported to.
        known, unknown: Validation images to prove it on.
        say: Told what is being done.

    Returns:
        `(files, skipped, reports)`: `{format: file}`, `{format: why not}`, and the
        contents of `parity.json`.
    """
    images = {"known_images": known, "unknown_images": unknown}
    files: dict[str, pathlib.Path] = {}
    skipped: dict[str, str] = {}
    reports: list[Json] = []
    for kind in FILE_FORMATS:
        names = [name for name in kind.choices if name in formats]
        if not names:
            continue
        if kind.name not in exports:
            skipped |= dict.fromkeys(names, f"the detector has no form in {kind.name}")
            continue
        # Those that are rounded more may fail where others do not; and float32 alone
        # must equal the SavedModel, which a detector that magnifies rounding may miss.
        others = [names[:1], names[1:]] if len(names) > 1 else []
        for some in (names, *others):
            say(f"Converting to {', '.join(some)}")
            try:
                made = conversion.write(kind, saved_model, folder, some, images)
            except Exception as error:  # A converter may fail in any way.
                reason = " ".join(str(error).split())[:400] or repr(error)
                skipped |= dict.fromkeys(some, reason)
                continue
            for name in some:
                skipped.pop(name, None)
                files[name] = folder / kind.locate(name)
            reports.append(json.loads((made / "parity.json").read_text()))
            break
    if BROWSER in formats:
        say("Making a page for the browser")
        try:
            _write_page(saved_model, folder, files, skipped, images)
            files[BROWSER] = folder / "browser/index.html"
        except Exception as error:  # As above.
            skipped[BROWSER] = " ".join(str(error).split())[:400] or repr(error)
    write_json(folder / "formats.json", {"written": list(files), "left_out": skipped})
    return files, skipped, reports


def _write_page(saved_model, folder, files, skipped, images):
    """Writes `browser/` of what was converted; what was not asked for is made for it.

    One runtime is enough, where a detector or a network has no form for the other.
    """
    there = {kind for kind in ("float32", "onnx") if kind in files}
    failed = {kind for kind in ("float32", "onnx") if kind in skipped}
    if there and there | failed == {"float32", "onnx"}:
        export.browser(
            folder / "browser",
            tflite=files["float32"] if "float32" in there else None,
            onnx=files["onnx"] if "onnx" in there else None,
        )
        return
    with tempfile.TemporaryDirectory() as spare:
        conversion.write_page(saved_model, folder, pathlib.Path(spare), images)
