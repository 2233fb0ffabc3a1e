"""What the entries of `manifest.json` must be, whoever wrote them."""

import json
import math
from typing import Any

import numpy as np

from ood_keras.conventions import UNKNOWN_LABEL


def parse(content: bytes) -> Any:
    """The value of a JSON text, `bytes`; NaN and infinity are refused.

    So are two entries of one name, of which each reader would believe another.

    Raises:
        ValueError, RecursionError: it is no JSON, or nested beyond reason.
    """
    return json.loads(
        content,
        parse_constant=_refuse,
        parse_float=_finite,
        object_pairs_hook=_once_each,
    )


def problems(content: Any) -> list[str]:
    """What is wrong with the content of a manifest, a list of sentences."""
    return list(_MANIFEST(content, "the manifest"))


# Whole numbers may have any number of digits in JSON; no larger float is finite.
_LARGEST = int(np.finfo(np.float64).max)


# A check takes a value and where it stands, and yields what is wrong with it.


def _is(test, expected):
    def check(value, where):
        if not test(value):
            text = json.dumps(value, ensure_ascii=False, default=str)
            text = text if len(text) <= 60 else f"{text[:57]}..."
            yield f"{where} must be {expected}, and is {text}"

    return check


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if _is_whole(value):
        return abs(value) <= _LARGEST
    return isinstance(value, float) and math.isfinite(value)


def _at_least(least):
    return _is(lambda v: _is_whole(v) and v >= least, f"a whole number >= {least}")


def _all(kind):
    return lambda value: isinstance(value, list) and all(map(kind, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _maybe(check):
    return lambda value, where: () if value is None else check(value, where)


def _dict_of(check):
    def check_all(value, where):
        yield from _any_dict(value, where)
        for name in value if isinstance(value, dict) else ():
            yield from check(value[name], f"{where}.{name}")

    return check_all


def _record(needed, others=None):
    """Entries that must be there, and others that may; what else there is may stay."""
    others = others or {}

    def check(value, where):
        yield from _any_dict(value, where)
        if not isinstance(value, dict):
            return
        inside = "" if where == "the manifest" else f"{where}."
        for name, inner in {**needed, **others}.items():
            if name in value:
                yield from inner(value[name], f"{inside}{name}")
            elif name in needed:
                yield f"{inside}{name} is missing"

    return check


def _is_float32(value: Any) -> bool:
    if not _is_number(value):
        return False
    with np.errstate(over="ignore"):
        return float(np.float32(value)) == value


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and (value[0] is None or (_is_whole(value[0]) and value[0] == 1))
        and all(_is_whole(size) and size >= 1 for size in value[1:])
    )


def _are_names(value):
    return (
        _all(_is_text)(value)
        and len(value) >= 1
        and all(value)
        and len(set(value)) == len(value)
        and UNKNOWN_LABEL not in value
    )


def _is_interval(value):
    return (
        _all(_is_number)(value) and len(value) == 2 and 0 <= value[0] <= value[1] <= 1
    )


def _refuse(name):
    raise ValueError(f"{name} is no number in JSON")


def _once_each(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(entries)
    if len(found) < len(entries):
        raise ValueError("an object has two entries of one name")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large a number")
    return value


_text = _is(_is_text, "a text")
_any_dict = _is(lambda v: isinstance(v, dict), "an object {...}")
_fraction = _is(lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1")
_threshold = _record(
    {
        "value": _is(_is_float32, "a number that float32 holds"),
        "method": _text,
        "guarantee": _text,
        "num_calibration": _at_least(0),
        "target_acceptance": _maybe(_fraction),
    },
    {"acceptance_interval": _maybe(_is(_is_interval, "two fractions [low, high]"))},
)
_of_classes = _record(
    {
        "values": _is(
            lambda v: _all(_is_float32)(v) and v, "a list of numbers that float32 holds"
        ),
        "method": _text,
        "guarantee": _text,
        "num_calibration": _is(
            lambda v: _all(lambda n: _is_whole(n) and n >= 0)(v),
            "a list of whole numbers >= 0",
        ),
        "target_acceptance": _fraction,
        "acceptance_intervals": _is(_all(_is_interval), "a list of [low, high]"),
    }
)


def _any_threshold(value, where):
    """One threshold, or one for each class, of which there is a list."""
    if not (isinstance(value, dict) and "values" in value):
        return _threshold(value, where)
    lists = ("values", "num_calibration", "acceptance_intervals")
    wrong = list(_of_classes(value, where))
    if not wrong and len({len(value[name]) for name in lists}) > 1:
        wrong.append(f"{where}: {', '.join(lists)} must be equally long")
    return wrong


_RANGES = {"float32": [0, 1], "uint8": [0, 255]}
_image_entries = _record(
    {
        "dtype": _is(
            lambda v: isinstance(v, str) and v in _RANGES,
            " or ".join(f'"{one}"' for one in _RANGES),
        ),
        "shape": _is(_is_shape, "[null or 1, height, width, channels]"),
        "tolerance": _is(lambda v: _is_number(v) and v >= 0, "a number >= 0"),
    }
)


def _image(value, where):
    wrong = list(_image_entries(value, where))
    if wrong:
        return wrong
    expected = _RANGES[value["dtype"]]
    return _record(
        {"range": _is(lambda v: v == expected, f"{expected} for {value['dtype']}")}
    )(value, where)


def _is_grey(value):
    return value is None or (_is_whole(value) and 0 <= value <= 255)


_image_bytes = _record(
    {"conversion": _text},
    {
        "background": _is(_is_grey, "null or a whole number from 0 to 255"),
        "exif_orientation": _is(lambda v: isinstance(v, bool), "true or false"),
        **{name: _at_least(1) for name in ("max_pixels", "max_side", "max_jpeg_scans")},
    },
)
_FILE = _record({"bytes": _at_least(0), "sha256": _text})
_earlier = _record({"created": _text, "versions": _dict_of(_text)})
_MANIFEST = _record(
    {
        "format": _at_least(1),
        "class_names": _is(_are_names, "two or more different class names"),
        "unknown_label": _is(lambda v: v == UNKNOWN_LABEL, f'"{UNKNOWN_LABEL}"'),
        "detector": _record({"name": _text, "config": _any_dict}),
        "threshold": _any_threshold,
        "input": _record(
            {"image": _image},
            {"image_bytes": _maybe(_image_bytes)},
        ),
        "output": _dict_of(_text),
        "created": _text,
        "versions": _record({"ood_keras": _text}, {"tensorflow": _text}),
        "files": _dict_of(_FILE),
    },
    {
        "operating_points": _dict_of(_threshold),
        "at_threshold": _maybe(_any_dict),
        "promise": _record(
            {
                "checked": _is(lambda v: isinstance(v, bool), "true or false"),
                "reason": _text,
            }
        ),
        "metrics": _maybe(_any_dict),
        "training": _maybe(
            _record(
                {},
                {
                    "data": _dict_of(
                        _record(
                            {"images": _is(_is_number, "a number"), "sha256": _text}
                        )
                    ),
                    "licences": _any_dict,
                },
            )
        ),
        "recalibrated_from": _record(
            {"version": _text, "created": _text},
            {"threshold": _any_threshold, "versions": _dict_of(_text)},
        ),
        "converted_to": _text,
        "converted_from": _earlier,
    },
)
