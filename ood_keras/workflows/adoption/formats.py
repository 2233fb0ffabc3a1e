"""The exported model in every format that can be, and why not in the others."""

import importlib.util
import json
import pathlib
import tempfile
from collections.abc import Callable, Sequence

from ood_keras.files import write_json
from ood_keras.inference.file_formats import FILE_FORMATS, ONNX, TFLITE, FileFormat
from ood_keras.types import Images, Json
from ood_keras.workflows import conversion
from ood_keras.workflows.conversion import BROWSER, FORMATS, PAGE_FORMATS


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
        if name == BROWSER:
            # One runtime is enough.
            missing = min((_find_missing(kind) for kind in (TFLITE, ONNX)), key=len)
            extra = "tflite,onnx"
        else:
            (kind,) = (kind for kind in FILE_FORMATS if name in kind.choices)
            missing, extra = _find_missing(kind), kind.name
        if missing:
            skipped[name] = (
                f"{' and '.join(missing)} not installed; pip install '.[{extra}]' in a "
                "checkout, then ood-convert"
            )
        else:
            chosen.append(name)
    return chosen, skipped


def _find_missing(kind: FileFormat) -> list[str]:
    return [one for one in kind.packages if importlib.util.find_spec(one) is None]


def write(
    saved_model: pathlib.Path,
    folder: pathlib.Path,
    formats: Sequence[str],
    exports: Sequence[str],
    known: Images,
    unknown: Images | None,
    say: Callable[[str], None],
) -> tuple[dict[str, pathlib.Path], dict[str, str], list[Json]]:
    """Converts an exported model to the formats that can be, and says why not others.

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
    images: Json = {"known_images": known, "unknown_images": unknown}
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
        say(f"Converting to {', '.join(names)}")
        made, reasons = _convert(kind, saved_model, folder, names, images)
        skipped |= reasons
        if made is not None:
            written = [name for name in names if name not in reasons]
            files |= {name: folder / kind.locate(name) for name in written}
            reports.append(json.loads((made / "parity.json").read_text()))
    if BROWSER in formats:
        say("Making a page for the browser")
        try:
            found, reasons = _write_page(saved_model, folder, files, skipped, images)
            reports += found
            skipped |= reasons
            files[BROWSER] = folder / "browser/index.html"
        except Exception as error:  # As above.
            skipped[BROWSER] = _reason(error)
    shares = {
        name: entry["equal_decisions_after"]
        for report in reports
        for name, entry in report["files"].items()
        if name in files
    }
    record = {"written": list(files), "left_out": skipped, "equal_decisions": shares}
    write_json(folder / "formats.json", record)
    return files, skipped, reports


def _convert(
    kind: FileFormat,
    saved_model: pathlib.Path,
    folder: pathlib.Path,
    names: list[str],
    images: Json,
) -> tuple[pathlib.Path | None, dict[str, str]]:
    """Writes the formats of a kind that can be written, and says why not the others.

    Those that are rounded more may fail where others do not; and float32 alone must
    equal the SavedModel, which a detector that magnifies rounding may miss.
    """
    try:
        return conversion.write(kind, saved_model, folder, names, images), {}
    except Exception as error:  # A converter may fail in any way.
        if len(names) == 1:
            return None, {names[0]: _reason(error)}
    reasons = {}
    for name in names:
        try:
            with tempfile.TemporaryDirectory() as spare:
                conversion.write(kind, saved_model, pathlib.Path(spare), [name], images)
        except Exception as error:  # As above.
            reasons[name] = _reason(error)
    left = [name for name in names if name not in reasons]
    if not left:
        return None, reasons
    try:
        return conversion.write(kind, saved_model, folder, left, images), reasons
    except Exception as error:  # As above.
        return None, reasons | dict.fromkeys(left, _reason(error))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or repr(error)


def _write_page(
    saved_model: pathlib.Path,
    folder: pathlib.Path,
    files: dict[str, pathlib.Path],
    skipped: dict[str, str],
    images: Json,
) -> tuple[list[Json], dict[str, str]]:
    """Writes `browser/` of what was converted; what was not asked for is made for it.

    Returns:
        The reports of what was made for it, and why one of the two could not be.
    """
    with tempfile.TemporaryDirectory() as spare:
        tried = set(files) | set(skipped)
        made, reasons = conversion.write_page(
            saved_model,
            folder,
            pathlib.Path(spare),
            images,
            formats=[name for name in PAGE_FORMATS if name not in tried],
        )
        return [json.loads(report.read_text()) for report in made], reasons
