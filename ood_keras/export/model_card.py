"""`MODEL_CARD.md`: the manifest as a page that people read before they use a model."""

import functools
import re

from ood_keras.conventions import percent
from ood_keras.evaluation import under_renderings
from ood_keras.metrics import measures
from ood_keras.names import one_line
from ood_keras.types import Json

NAME = "MODEL_CARD.md"


def render(manifest: Json) -> str:
    """Returns the page as text; every number in it is the manifest's.

    Args:
        manifest: The content of `manifest.json`. What it does not tell, because the
            exporter was not told, is said to be missing.
    """
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": functools.partial(percent, spec=".2f", unit=""),
        "code": _code,
        "cell": _cell,
        "plain": _plain,
    }
    training = dict(manifest.get("training") or {})
    rows = _rows(manifest)
    return environment.from_string(_TEMPLATE).render(
        manifest=manifest,
        of_classes=manifest["threshold"].get("values"),
        recalibrated_from=manifest.get("recalibrated_from"),
        image=manifest["input"]["image"],
        files=manifest["input"].get("image_bytes"),
        known=_known(manifest),
        rows=rows,
        weakest=_weakest(rows),
        columns=measures.in_rows(rows.values()),
        at_threshold=_at_threshold(manifest, rows),
        renderings=_renderings(manifest),
        verdict=_verdict(manifest),
        left_out=_count(training.pop("left_out", {})),
        data=training.pop("data", {}),
        licences=training.pop("licences", {}),
        training=training,
        is_adopted=_is_adopted(training),
    )


def _is_adopted(training: Json) -> bool:
    """Whether the network was trained elsewhere, on data that nobody recorded."""
    recipe = training.get("recipe")
    return isinstance(recipe, dict) and recipe.get("loss") == "elsewhere"


def _known(manifest: Json) -> Json | None:
    """`source` and `accuracy` of the known test images; `None` where not recorded."""
    try:
        known = manifest["metrics"]["known"]
        return {"source": str(known["source"]), "accuracy": float(known["accuracy"])}
    except (KeyError, TypeError, ValueError):
        return None


def _rows(manifest: Json) -> dict[str, Json]:
    """The exported detector's metrics by unknown source; metrics may have any form."""
    try:
        detectors = manifest["metrics"]["detectors"]
        unknown = detectors[manifest["detector"]["name"]]["unknown"]
        columns = measures.in_rows(unknown.values())
        return {
            source: {
                "seen": bool(row["seen"]),
                **{key: float(row[key]) for key in columns},
            }
            for source, row in unknown.items()
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _weakest(rows: dict[str, Json]) -> str | None:
    """The unseen source with the lowest AUROC; `None` where none was recorded."""
    unseen = {
        source: row["auroc"]
        for source, row in rows.items()
        if not row["seen"] and "auroc" in row
    }
    return min(unseen, key=lambda source: unseen[source], default=None)


def _at_threshold(manifest: Json, rows: dict[str, Json]) -> Json | None:
    """What the threshold does to test images; `None` where not recorded for all."""
    try:
        measured = manifest["at_threshold"]
        known = measured["known"]
        right = known["accuracy_of_accepted"]
        return {
            "known": {
                "images": int(known["images"]),
                "accepted": float(known["accepted"]),
                "accuracy_of_accepted": None if right is None else float(right),
            },
            "unknown": {
                source: {
                    "images": int(measured["unknown"][source]["images"]),
                    "rejected": float(measured["unknown"][source]["rejected"]),
                }
                for source in rows
            },
        }
    except (KeyError, TypeError, ValueError):
        return None


def _count(left_out: object) -> str:
    """How many files a training left out, by source."""
    if not isinstance(left_out, dict):
        return ""
    return ", ".join(
        f"{len(names):,} files of {spec}"
        for spec, names in left_out.items()
        if isinstance(names, list)
    )


def _verdict(manifest: Json) -> Json | None:
    """What the exporter made of the measurements; `None` where not recorded."""
    try:
        verdict = manifest["at_threshold"]["verdict"]
        return {
            "said": str(verdict["said"]),
            "objections": [
                str(objection["sentence"]) for objection in verdict["objections"]
            ],
            "facts": [str(fact) for fact in verdict["facts"]],
        }
    except (KeyError, TypeError, ValueError):
        return None


def _renderings(manifest: Json) -> Json | None:
    """What renderings do to the exported detector; `None` where not recorded.

    With "sentences", what it comes to in words.
    """
    try:
        measured = manifest["at_threshold"]["renderings"]
        measured = measured["detectors"][manifest["detector"]["name"]]
        rows = [
            {
                "title": str(row["title"]),
                "known": {
                    share: float(row["known"][share])
                    for share in ("accepted", "accuracy")
                },
                "unknown": {
                    source: float(other["rejected"])
                    for source, other in row["unknown"].items()
                },
            }
            for row in measured["steps"]
        ]
        summary = {
            source: {name: float(value) for name, value in row.items()}
            for source, row in measured["summary"]["auroc"].items()
        }
        return {
            "rows": rows,
            "auroc": summary,
            "sentences": under_renderings.describe(measured),
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _code(value: object) -> str:
    """Text that Markdown shows as it is."""
    text = one_line(value)
    # More backquotes than follow one another in the text.
    runs = map(len, re.findall("`+", text))
    fence = "`" * (1 + max(runs, default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}" if text else ""


def _cell(value: object) -> str:
    """The same inside of a table."""
    return _code(value).replace("|", "\\|")


def _plain(value: object) -> str:
    """Nested JSON values as one line that means nothing to Markdown."""
    text = one_line(_flat(value))
    return re.sub(r"([\\`*<>|\[\]$&~]|\b_|_\b)", r"\\\1", text)


def _flat(value: object) -> str:
    if isinstance(value, dict):
        value = [f"{key} {_flat(entry)}" for key, entry in value.items()]
    if isinstance(value, list):
        return ", ".join(map(_flat, value)) or "none"
    return "none" if value is None else str(value)


_TEMPLATE = """\
# Model card{{ ": " ~ known.source|code if known }}

Written by the exporter from what the run recorded; nothing in it is typed by hand.
Exported {{ manifest.created }} with ood_keras {{ manifest.versions.ood_keras }}.
{% if recalibrated_from %}
The threshold was chosen anew for version {{ recalibrated_from.version }}, which was
exported {{ recalibrated_from.created }}.
{% endif %}

{% if verdict %}
## Verdict: {{ verdict.said|plain }}

By its test images, at the threshold that it decides by.

{% for sentence in verdict.objections %}
* **{{ sentence|plain }}**
{% endfor %}
{% for sentence in verdict.facts %}
* {{ sentence|plain }}
{% endfor %}

{% endif %}
## What it does

Sorts an image into one of {{ manifest.class_names|length }} known classes, or
rejects it as unknown: {% for name in manifest.class_names %}
{{ name|code }}{{ "." if loop.last else ", " }}
{%- endfor %}


An image is accepted when its `ood_score` (higher means more likely unknown; detector
{{ manifest.detector.name|code }}) is at most the threshold{{
" of the class that is most probable for it" if of_classes else "" -}}
. Otherwise `class_id` is -1
and `label` is {{ manifest.unknown_label|code }}.

**Intended use.** Images of the kind that {{
"its threshold was chosen on" if is_adopted else "it was trained on" }}
{{- " (" ~ known.source|code ~ ")" if known }}, prepared as described under Input, where
other images may occur and are better rejected than named.

**Not intended.** Decisions about people, health or safety. Images of another kind than
the known ones, without measuring first on such images. As a proof that an accepted
image is what the label says: rejection makes wrong answers rarer and does not end them.
`probabilities` say which known class it would be, not whether it is one.

## Results

{% if known %}
Accuracy {{ known.accuracy|percent }} % on known test images, before any rejection.
{% endif %}
{% if at_threshold %}
{% set accepted = at_threshold.known %}
At the threshold, {{ accepted.accepted|percent }} % of the
{{ "{:,}".format(accepted.images) }} known test images are accepted.
{% if accepted.accuracy_of_accepted is not none %}
Of those, {{ accepted.accuracy_of_accepted|percent }} % get the right class.
{% endif %}
{% endif %}
{% if rows %}

Test images that are unknown, in percent:

| unknown source | training{% for measure in columns.values() %} | {{ measure.title }}
{%- endfor %}{{ " | rejected | images" if at_threshold }} |
| --- | ---{{ " | ---:" * (columns|length + (2 if at_threshold else 0)) }} |
{% for source, row in rows.items() %}
| {{ source|cell }} | {{ "seen" if row.seen else "unseen" }}
{%- for key in columns %} | {{ row[key]|percent }}{% endfor %}
{%- if at_threshold %}
 | {{ at_threshold.unknown[source].rejected|percent }} | {{
"{:,}".format(at_threshold.unknown[source].images) }}{% endif %} |
{% endfor %}

"Seen" sources were in training too, with other images; "unseen" ones are new to the
model.
{% if at_threshold %}
"Rejected" is the share of unknown images above the threshold.
{% endif %}

{% for measure in columns.values() %}
{% set better = "higher" if measure.higher_is_better else "lower" %}
* {{ measure.title }} ({{ better }} is better):
  {{ measure.description }}.
{% endfor %}
{% else %}

No results on unknown images were recorded. Measure before you rely on it.
{% endif %}

{% if renderings %}
## In other renderings

Known and unknown test images, rendered otherwise all alike, at the threshold.
{% for sentence in renderings.sentences %}
{{ sentence|plain }}
{% endfor %}

| rendering | known accepted | classified right
{%- for source in renderings.auroc %} | {{ source|cell }} rejected{% endfor %} |
| --- | ---: | ---:{{ " | ---:" * renderings.auroc|length }} |
{% for row in renderings.rows %}
| {{ row.title|plain }} | {{ row.known.accepted|percent }} | {{
row.known.accuracy|percent }}
{%- for source in renderings.auroc %} | {{ row.unknown[source]|percent }}{% endfor %} |
{% endfor %}

AUROC untouched, over the mild renderings, and over all of them together:
{% for source, row in renderings.auroc.items() %}
{{ source|code }} {{ row.untouched|percent }}, {{ row.mild|percent }}, {{
row.full_spectrum|percent }}{{ "." if loop.last else ";" }}
{% endfor %}

{% endif %}
## Threshold

{% if of_classes %}
One for each predicted class, chosen by `{{ manifest.threshold.method }}`.
{{ manifest.threshold.guarantee|plain }}

| predicted class | threshold | images it was chosen on |
| --- | ---: | ---: |
{% for name in manifest.class_names %}
| {{ name|cell }} | {{ of_classes[loop.index0] }} | {{
"{:,}".format(manifest.threshold.num_calibration[loop.index0]) }} |
{% endfor %}
{% else %}
{{ manifest.threshold.value }}, chosen by `{{ manifest.threshold.method }}`.
{{ manifest.threshold.guarantee|plain }}
{% endif %}
{% if manifest.operating_points %}

Other thresholds that it offers:

{% for name, point in manifest.operating_points.items() %}
* {{ name|code }}: {{ point.value }}, chosen by `{{ point.method }}`.
  {{ point.guarantee|plain }}
{% endfor %}
{% endif %}

## Input

Float32 images (batch, {{ image.shape[1:]|join(", ") }}) in [0, 1]. NaN, infinite and
out-of-range pixels give `valid` false and are rejected.
{% if files %}

Image files: {{ files.conversion|plain }}.
{% if files.background is number %}
The background is {{ files.background }} of 255.
{% endif %}
{% endif %}

## Data and protocol

{% if training or data %}
| | |
| --- | --- |
{% for key, value in training.items() %}
| {{ key|plain }} | {{ value|plain }} |
{% endfor %}
{% if left_out %}
| left out | {{ left_out|plain }} |
{% endif %}
{% if data %}

| split | images | sha256 |
| --- | ---: | --- |
{% for source, split in data.items() %}
| {{ source|cell }} | {{ "{:,}".format(split.images) }} | `{{ split.sha256 }}` |
{% endfor %}
{% endif %}
{% for source, licence in licences.items() %}
{{ "\nLicence of the training data:\n\n" if loop.first -}}
* {{ source|code }}: {{ licence|plain }}
{% endfor %}
{% else %}
The exporter was not told how the network was trained.
{% endif %}

## Limits

{% if weakest %}
* Weakest on {{ weakest|code }} among the unseen sources: AUROC
  {{ rows[weakest].auroc|percent }}. A source that is not in the table may be worse.
{% endif %}
* The promise of the threshold holds for known images drawn like those it was calibrated
  on. Another camera, another hand or another way of preparing images voids it; measure
  again, and choose a threshold anew with `ood-calibrate`.
{% if manifest.get("promise") %}
* When it was exported, the promise was not tried: {{ manifest.promise.reason|plain }}.
{% endif %}
{% if is_adopted %}
* The network was trained elsewhere; on what is not recorded here.
{% else %}
* One training run. Another seed gives somewhat other numbers.
{% endif %}
* No resistance to images that were made to deceive it is claimed.

## Files

`ood_keras.export.load` checks these sums, and those of this page and the manifest,
before it opens the model. They find damage; they are no signature.

| file | bytes | sha256 |
| --- | ---: | --- |
{% for name, file in manifest.files.items() %}
| {{ name|cell }} | {{ "{:,}".format(file.bytes) }} | `{{ file.sha256 }}` |
{% endfor %}
"""
