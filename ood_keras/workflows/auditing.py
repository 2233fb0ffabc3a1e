"""Looks at pictures before anything is trained on them."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

from ood_keras import files, names
from ood_keras.image_files import BACKGROUND, check_background
from ood_keras.pipelines import audit as data_audit
from ood_keras.pipelines import grouping
from ood_keras.pipelines.sources.loading import check_image_shape
from ood_keras.pipelines.split import ROLES
from ood_keras.training import recipes
from ood_keras.types import ImageShape, Json, Path
from ood_keras.workflows import audit_page, cost

# How many lines of a finding the terminal shows; what cannot be read is shown in full
# unless it is very much.
_NUM_LINES, _NUM_UNREADABLE = 5, 100


@dataclasses.dataclass(frozen=True)
class Audit:
    """What `audit` found.

    Attributes:
        collection: The pictures.
        findings: What is wrong with them, the worst first.
        cost: What a training would cost, see `cost.estimate`; `None` if no recipe was
            asked about, or it cannot be told.
        no_cost: Why the cost that was asked about cannot be told, or `None`.
    """

    collection: data_audit.Collection
    findings: list[data_audit.Finding]
    cost: Json | None = None
    no_cost: str | None = None

    @property
    def spoils(self) -> bool:
        """Whether something would spoil the result of a training."""
        return data_audit.spoils(self.findings)

    def __str__(self) -> str:
        """The audit as text for a terminal."""
        parts = [
            _table(self.collection, number)
            for number in range(len(self.collection.sources))
        ]
        parts += [_describe(finding) for finding in self.findings]
        if self.cost is not None:
            parts.append(cost.describe(self.cost))
        if self.no_cost is not None:
            parts.append(_say_no_cost(self.no_cost))
        return "\n\n".join(parts)

    def to_json(self) -> Json:
        """The audit as plain values, with every file of every finding."""
        collection = self.collection
        return {
            "spoils": self.spoils,
            "sources": [
                {
                    "spec": source.spec,
                    "kind": source.kind,
                    "pictures": {
                        name or "": count
                        for name, count in data_audit.counts(collection, number).items()
                    },
                }
                for number, source in enumerate(collection.sources)
            ],
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "title": finding.title,
                    "advice": finding.advice,
                    "lines": [names.valid(line) for line in finding.lines],
                    "pictures": [
                        [
                            {
                                "source": collection.pictures[row].source,
                                "name": names.valid(collection.pictures[row].name),
                            }
                            for row in group
                        ]
                        for group in finding.groups
                    ],
                }
                for finding in self.findings
            ],
            **({} if self.cost is None else {"cost": self.cost}),
            **({} if self.no_cost is None else {"no_cost": self.no_cost}),
        }


def audit(
    *,
    known: Sequence[str],
    unknown: Sequence[str] = (),
    output: Path | None = None,
    data_dir: Path | None = None,
    background: int | str = BACKGROUND,
    recipe: str | None = None,
    image_shape: Iterable[int] | None = None,
    group_by: str | Sequence[str] = grouping.COPIES,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Looks at pictures before anything is trained on them.

    Finds what cannot be read, all of it at once; copies of one picture, equal or nearly
    so, under several labels, in several splits, or known here and unknown there;
    classes that differ by case; blank pictures; labels and pictures to look at first.

    Args:
        known: Specs of known sources, as for `pipelines.load`.
        unknown: Specs of unknown sources. Those that are made, such as `synthetic`,
            are named and not looked at.
        output: A folder that receives `audit.html`, a page with the pictures, and
            `audit.json`. `None` writes nothing.
        data_dir: The folder of the data sets.
        background: What transparent pixels are laid on.
        recipe: Name of a recipe whose cost is to be estimated, see `cost.estimate`.
        image_shape: `(height, width, channels)` that would be trained with; default:
            that of the pictures. If they have several, the cost cannot be told, and
            `Audit.no_cost` says so.
        group_by: What makes pictures belong together when they are dealt out, see
            `pipelines.load`; as for `train`, copies.
        progress: Called with how many of how many pictures are read.

    Returns:
        The `Audit`; as text, `str(...)`, it is what `ood-data` shows.

    Raises:
        ValueError: no source is given, one is unknown, or its folders cannot be told
            apart; or no recipe is called so.
        DataNotFoundError: a source is not there.

    Example:

    ```python
    found = workflows.audit(known=["folder:pictures"], output="runs/audit")
    print(found)
    ```
    """
    if not known and not unknown:
        raise ValueError(
            "there is nothing to look at. Name sources, such as folder:PICTURES"
        )
    # Before all pictures are read.
    shape = check_image_shape(image_shape)
    chosen = None if recipe is None else recipes.get(recipe)
    collection = data_audit.gather(
        known,
        unknown,
        data_dir=data_dir,
        background=check_background(background),
        group_by=group_by,
        image_shape=shape,
        progress=progress,
    )
    estimate = no_cost = None
    if chosen is not None:
        try:
            estimate = _estimate(collection, chosen, shape)
        except ValueError as error:
            no_cost = str(error)
    found = Audit(collection, data_audit.find(collection), estimate, no_cost)
    if output is not None:
        folder = pathlib.Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        content = found.to_json()
        files.write_json(folder / "audit.json", content)
        text = None if no_cost is None else _say_no_cost(no_cost)
        page = audit_page.render(collection, found.findings, estimate, text)
        files.write_text(folder / "audit.html", page)
    return found


def _say_no_cost(why: str) -> str:
    return f"What a training would cost cannot be told: {why}"


def _estimate(
    collection: data_audit.Collection,
    recipe: recipes.Recipe,
    image_shape: ImageShape | None,
) -> Json:
    known = [
        one
        for one in collection.pictures
        if one.shape is not None and collection.kind(one) == "known"
    ]
    shapes = {one.shape for one in known if one.shape is not None}
    if not shapes:
        raise ValueError("there are no known pictures that can be read")
    if image_shape is None and len(shapes) != 1:
        raise ValueError(
            f"the pictures have {len(shapes)} sizes, so what a training costs depends "
            "on the one they are brought to. Give --image_shape=HEIGHT,WIDTH,CHANNELS"
        )
    counts = {role: sum(one.role == role for one in known) for role in ROLES}
    classes = {(one.source, one.class_name) for one in known}
    return cost.estimate(
        recipe,
        image_shape or next(iter(shapes)),
        num_classes=len(classes),
        num_train=counts["train"],
        num_validation=counts["validation"],
    )


def _table(collection: data_audit.Collection, number: int) -> str:
    """A source's pictures by class and split."""
    source = collection.sources[number]
    if source.is_made:
        return f"{source.spec} ({source.kind}): its images are made, not looked at"
    counts = data_audit.counts(collection, number)
    roles = [role for role in ROLES if any(role in count for count in counts.values())]
    sizes = data_audit.sizes(collection, number)
    rows = [("class", *roles, "all", "height x width")]
    rows += [
        (
            "(unknown)" if name is None else names.one_line(name),
            *(f"{count.get(role, 0):,}" for role in roles),
            f"{sum(count.values()):,}",
            sizes.get(name, ""),
        )
        for name, count in counts.items()
    ]
    if len(counts) > 1:
        totals = [
            sum(count.get(role, 0) for count in counts.values()) for role in roles
        ]
        rows.append(
            ("all", *(f"{total:,}" for total in totals), f"{sum(totals):,}", "")
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [
                cell.rjust(width)
                for cell, width in zip(row[1:], widths[1:], strict=True)
            ]
        )
        for row in rows
    ]
    return "\n".join(
        [f"{source.spec} ({source.kind})", *(f"  {line}" for line in lines)]
    )


_MARKS = {"spoils": "!!", "look": " !", "note": "  "}


def _describe(finding: data_audit.Finding) -> str:
    most = _NUM_UNREADABLE if finding.kind in _IN_FULL else _NUM_LINES
    shown = [f"     {names.one_line(line)}" for line in finding.lines[:most]]
    if len(finding.lines) > most:
        shown.append(f"     and {len(finding.lines) - most:,} more")
    title = f"{_MARKS[finding.severity]} {finding.title}. {finding.advice}"
    return "\n".join([title, *shown])


_IN_FULL = ("unreadable", "left_out", "classes", "equal_labels")
