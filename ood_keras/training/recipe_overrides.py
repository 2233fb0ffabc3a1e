"""Changes of a recipe as they are typed, `FIELD=VALUE`."""

import dataclasses
import json
from collections.abc import Iterable

from ood_keras.training import recipes
from ood_keras.types import Json

# A recipe with changes keeps its name.
_OVERRIDES = tuple(
    field.name for field in dataclasses.fields(recipes.Recipe) if field.name != "name"
)


def parse_overrides(overrides: Iterable[str]) -> Json:
    """Returns `{"epochs": 2}` for `["epochs=2"]`.

    `None` and `none` say the same as `null` of a field that may be `None`; a block may
    be called "none".
    """
    parsed = {}
    for override in overrides:
        field, separator, value = override.partition("=")
        field, value = field.strip(), value.strip()
        if not separator or not field or not value:
            raise ValueError(
                "an override is FIELD=VALUE, as in epochs=2, with FIELD one of "
                f"{', '.join(_OVERRIDES)}. Received: {override!r}"
            )
        if field in parsed:
            raise ValueError(
                f"the field {field!r} of the recipe is overridden twice: {overrides}. "
                "Give it once"
            )
        if field not in _OVERRIDES:
            raise ValueError(
                f"a recipe has no field {field!r} to override; it has: "
                f"{', '.join(_OVERRIDES)}. Received: {override!r}"
            )
        try:
            parsed[field] = json.loads(value)
        except (json.JSONDecodeError, RecursionError):
            is_none = value in ("None", "none") and field in recipes.OPTIONAL
            parsed[field] = None if is_none else value
    return parsed
