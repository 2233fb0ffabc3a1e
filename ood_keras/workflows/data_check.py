"""The quick part of an audit, before a training."""

from collections.abc import Sequence

from ood_keras.image_files import BACKGROUND, check_background
from ood_keras.names import one_line
from ood_keras.pipelines import audit
from ood_keras.types import Json

# A class both known and unknown is found by `pipelines.check_roles`, which also knows
# the sources whose classes are numbers.
_FOUND_LATER = ("known_and_unknown_class",)
_NUM_LINES = 100


def check_data(
    known: str,
    unknown: Sequence[str],
    *,
    background: str | int | None = BACKGROUND,
    skip_bad: bool = False,
) -> Json:
    """Looks for what would spoil a training in pictures that are files.

    Files are looked at without decoding them, so it is quick: what cannot be read, and
    equal files under several labels, in several splits, or known and unknown. Of
    folders, zip files and records alone; others are official data, or arrays.

    Args:
        known: Spec of the known source.
        unknown: Specs of the unknown sources.
        background: What transparent pixels are laid on.
        skip_bad: Whether to leave out what is bad, in place of stopping. Then the
            pictures are decoded, so that all that cannot be read is known.

    Returns:
        What to leave out, `{spec: {name: reason}}`; empty if nothing is bad.

    Raises:
        ValueError: something would spoil the result; it lists all of it.
    """
    collection = audit.gather(
        [known],
        unknown,
        background=None if background is None else check_background(background),
        decode=skip_bad,
        only_listed=True,
    )
    found = [
        finding
        for finding in audit.find(collection, quick=True)
        if finding.severity == "spoils" and finding.kind not in _FOUND_LATER
    ]
    left_out = audit.leave_out.choose(collection) if skip_bad else {}
    if skip_bad:
        # These have no files that could be left out.
        found = [finding for finding in found if not finding.groups]
    if found:
        lines = ["the data would spoil the result:", *map(_describe, found)]
        if not skip_bad:
            lines.append(
                "`ood-data` shows the pictures and looks for more; --skip_bad goes on "
                "without such files"
            )
        raise ValueError("\n".join(lines))
    return left_out


def find_bad(
    known: str,
    unknown: Sequence[str],
    *,
    background: str | int | None = BACKGROUND,
) -> Json:
    """Returns what to leave out of unknown sources, `{spec: {name: reason}}`.

    That is what cannot be read, and copies of known pictures. Files alone are looked
    at, and decoded.

    Args:
        known: Spec of the known source; nothing of it is left out.
        unknown: Specs of the unknown sources.
        background: What transparent pixels are laid on.
    """
    collection = audit.gather(
        [known],
        unknown,
        background=None if background is None else check_background(background),
        only_listed=True,
    )
    found = audit.leave_out.choose(collection)
    return {spec: names for spec, names in found.items() if spec in unknown}


def count_left_out(left_out: Json) -> str:
    """What is left out, in words.

    >>> count_left_out({"folder:pictures": {"cat/1.png": "is empty"}})
    '1 file of folder:pictures'
    """
    return ", ".join(
        f"{len(names):,} file{'s' * (len(names) != 1)} of {spec}"
        for spec, names in left_out.items()
    )


def list_left_out(left_out: Json) -> str:
    """What is left out, counted, and then each file with the reason."""
    lines = [
        f"  {spec}: {one_line(name)} {one_line(reason)}"
        for spec, reasons in left_out.items()
        for name, reason in reasons.items()
    ]
    return "\n".join([f"Left out: {count_left_out(left_out)}.", *lines])


def _describe(finding: audit.Finding) -> str:
    lines = [f"    {line}" for line in finding.lines[:_NUM_LINES]]
    more = len(finding.lines) - _NUM_LINES
    if more > 0:
        lines.append(f"    and {more:,} more")
    return "\n".join([f"  {finding.title}:", *lines])
