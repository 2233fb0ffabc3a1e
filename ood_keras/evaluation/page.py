"""The report as one HTML file that needs nothing else."""

import base64
import functools
import platform
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ood_keras import names
from ood_keras._version import __version__
from ood_keras.conventions import percent
from ood_keras.evaluation import style, verdict
from ood_keras.metrics import measures
from ood_keras.types import Json

if TYPE_CHECKING:
    import jinja2
    import markupsafe

    from ood_keras import evaluation

_FIGURES = {
    "renderings": (
        "In other renderings",
        "Shares accepted when known and unknown test images are rendered otherwise, "
        "all alike; to the left, known images as they then look. A classifier that "
        "knows what it sees keeps the dots at the right, the crosses at the left.",
    ),
    "density": (
        "Known against unknown",
        "Distribution of the largest known probability and of the score, one row per "
        "unknown source, on a logarithmic scale. A good detector keeps the colours "
        "apart.",
    ),
    "roc": (
        "ROC",
        "Share of known images accepted against share of unknown images accepted, over "
        "all thresholds. Dashed: sources that training was exposed to.",
    ),
    "features_2d": (
        "Features",
        "What the layer before the classifier sees: known images by class, unknown "
        "images of all sources in black.",
    ),
    "examples": (
        "Worst mistakes",
        "Known images rejected and unknown images accepted at the threshold, those "
        "furthest on the wrong side first.",
    ),
    "strange": (
        "Why some were rejected",
        "Rejected test images; the same, red where the score falls if that part is "
        "covered; and the known image that is most like it to the network. An image "
        "that is strange as a whole has no red place.",
    ),
    "grid": (
        "Every unknown source",
        "Features, ROC and density of each source by itself.",
    ),
}


def render(report: "evaluation.Report", images: Mapping[str, bytes]) -> str:
    """Returns the page as text.

    Args:
        report: A `Report`.
        images: `{figure name: PNG bytes}`.
    """
    metrics = report.metrics
    rows = [
        row
        for detector in metrics["detectors"].values()
        for row in detector["unknown"].values()
    ]
    selected = metrics["selected_detector"]
    unseen = {
        source: row["auroc"]
        for source, row in metrics["detectors"][selected]["unknown"].items()
        if not row["seen"]
    }
    environment = new_environment()
    environment.filters["percent"] = functools.partial(percent, spec=".2f", unit="")
    return environment.from_string(_TEMPLATE).render(
        metrics=metrics,
        selected=selected,
        worst_unseen=min(unseen.items(), key=lambda item: item[1], default=None),
        columns=measures.in_rows(rows),
        has_interval=any(row.get("auroc_interval") for row in rows),
        validation_columns=measures.in_rows(report.validation_metrics.values()),
        accepted=report.accepted,
        rejected=report.rejected,
        threshold=report.threshold,
        validation=report.validation_metrics,
        sizes=_sizes(report),
        protocol=report.protocol | {"versions": versions()},
        figures=[
            (
                title,
                text,
                round(_width(images[name]) / style.DPI, 2),
                base64.b64encode(images[name]).decode(),
            )
            for name, (title, text) in _FIGURES.items()
            if name in images
        ],
        renderings=_renderings(metrics, selected),
        verdict=report.verdict.to_json(),
        rules=verdict.RULES,
        rendering_sentences=report.rendering_sentences(),
    )


def new_environment() -> "jinja2.Environment":
    """What makes pages: names that people chose are shown, and never markup.

    The filter `breakable` is for names in narrow places.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=names.on_page,
    )
    environment.filters["breakable"] = _breakable
    return environment


def _breakable(name: object) -> "markupsafe.Markup":
    """A name whose lines end, where they must, behind `_` or `/` and within no word.

    Between letters only, which leaves alone what is written as `&lt;`.
    """
    import markupsafe

    escaped = str(markupsafe.escape(names.on_page(name)))
    return markupsafe.Markup(re.sub(r"(?<=\w)([_/])(?=[^\W_])", r"\1<wbr>", escaped))


def _width(png: bytes) -> int:
    """Pixels of a PNG image from left to right; its first chunk begins with them."""
    return int.from_bytes(png[16:20], "big")


def versions() -> dict[str, str]:
    """What ran, as `{name: version}`."""
    import keras
    import numpy

    return {
        "ood_keras": __version__,
        "keras": f"{keras.__version__} on {keras.backend.backend()}",
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def _renderings(metrics: Json, selected: str) -> Json | None:
    """What was measured under renderings of the selected detector, or `None`."""
    if "renderings" not in metrics:
        return None
    return metrics["renderings"]["detectors"][selected]


def _sizes(report: "evaluation.Report") -> list[tuple[str, str, int, bool]]:
    """Rows `(role, source, number of images, whether seen)`."""
    selected = report.metrics["selected_detector"]
    rows = report.metrics["detectors"][selected]["unknown"]
    return [
        *(
            (f"validation, {role}", "", len(scores[selected]), False)
            for role, scores in report.validation.items()
        ),
        (
            "test, known",
            report.metrics["known"]["source"],
            len(report.known.labels),
            False,
        ),
        *(
            ("test, unknown", source, len(data.predictions), rows[source]["seen"])
            for source, data in report.unknown.items()
        ),
    ]


# Of every page: the report, and the audit of data. A telephone shows a column of 350
# pixels. What is wider, in a `.scroll` box, scrolls by itself, the page never: at an
# edge that hides something there is a shadow, painted on the box, and over it the
# ground, painted on what scrolls, which covers the shadow at the end. Figures are as
# large as they were drawn (`--inches`), so that their letters can be read, and let the
# shadow through.
STYLE = """\
:root { --back: #ffffff; --text: #1b1f24; --muted: #5a6270; --line: #d8dde3;
        --card: #f5f7f9; --accent: #1f6fb5; --shade: rgb(0 0 0 / 30%); }
@media (prefers-color-scheme: dark) {
  :root { --back: #14171a; --text: #e6e9ed; --muted: #a3acb8; --line: #363d45;
          --card: #1d2226; --accent: #7ab8f0; --shade: rgb(255 255 255 / 35%); } }
* { box-sizing: border-box; }
body { background: var(--back); color: var(--text); margin: 0 auto;
       max-width: 66.4rem; padding: 2rem 1.2rem; overflow-wrap: anywhere;
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p, figcaption, .note { color: var(--muted); max-width: 46rem; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
             padding: .7rem 1rem; flex: 1 1 10rem; }
.cards b { display: block; font-size: 1.35rem; line-height: 1.25; }
.cards span { color: var(--muted); font-size: .85rem; }
.verdict { background: var(--card); border: 1px solid var(--line); margin: 1rem 0;
           border-left: .4rem solid var(--accent); border-radius: 8px;
           padding: .2rem 1rem .6rem; }
.verdict.do_not_ship { border-left-color: #c62f2f; }
.verdict.look_first { border-left-color: #c98a00; }
.verdict h2 { margin: .6rem 0; }
.verdict ul { padding-left: 1.2rem; }
.verdict li { margin: .3rem 0; } .verdict li.do_not_ship { font-weight: 600; }
.verdict li span { color: var(--muted); display: block; font-size: .85rem;
                   font-weight: 400; }
.verdict p { margin: .3rem 0; max-width: none; }
.scroll { --ground: var(--back); overflow-x: auto;
  background:
    linear-gradient(to right, var(--ground) 30%, transparent) left / 3rem 100% local,
    linear-gradient(to left, var(--ground) 30%, transparent) right / 3rem 100% local,
    linear-gradient(to right, var(--shade), transparent) left / 1rem 100% scroll,
    linear-gradient(to left, var(--shade), transparent) right / 1rem 100% scroll,
    var(--ground);
  background-repeat: no-repeat; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; min-width: 60%;
        font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .35rem .8rem .35rem 0; text-align: right; white-space: nowrap;
         border-bottom: 1px solid var(--line); }
th:first-child, td:first-child, .text td, .text th { text-align: left; }
th { color: var(--muted); font-weight: 600; white-space: normal;
     vertical-align: bottom; }
.text th { vertical-align: baseline; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 8.5rem; }
table:not(.text) :is(td, th):first-child { position: sticky; left: 0;
                                           background: var(--back); }
.seen { border: 1px solid var(--muted); border-radius: 4px; color: var(--muted);
        display: inline-block; font-size: .72rem; line-height: 1.4; margin-left: .3rem;
        padding: 0 .3rem; vertical-align: middle; white-space: nowrap; }
.chosen td { color: var(--accent); font-weight: 600; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--accent); }
figure { margin: 0 0 1rem; }
img { background: #ffffff; border-radius: 8px; border: 1px solid var(--line);
      max-width: 100%; padding: .5rem; }
figure .scroll { --ground: #ffffff; --shade: rgb(0 0 0 / 30%); border-radius: 8px;
                 border: 1px solid var(--line); margin-bottom: .5rem;
                 max-width: calc(var(--inches) * 108px + 2px); }
.scroll img { background: none; border: 0; display: block; max-width: none;
  mix-blend-mode: multiply;
  width: clamp(var(--inches) * 96px, 100%, var(--inches) * 108px); }
dt { font-weight: 600; margin-top: .4rem; } dd { margin: 0; color: var(--muted); }
.text td { white-space: normal; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  body { padding: 1.2rem; }
  .cards div { padding: .6rem .7rem; } .cards b { font-size: 1.15rem; } }
"""

_TEMPLATE = (
    """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ metrics.known.source }}: open-set evaluation</title>
<style>
"""
    + STYLE
    + """\
</style>
</head>
<body>
{% macro box(label, inches=0) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ label }}"
{%- if inches %} style="--inches: {{ inches }}"{% endif %}>{% endmacro %}
{% macro results(name, rows, with_threshold) %}
{{ box("Results of " ~ name) }}<table>
<thead><tr><th>unknown source</th>
{% for measure in columns.values() %}
<th>{{ measure.title }}&nbsp;{{ measure.arrow }}</th>
{% if measure.name == "auroc" and has_interval %}<th>(95 % interval)</th>{% endif %}
{% endfor %}
{% if with_threshold %}<th>rejected&nbsp;↑</th>{% endif %}
</tr></thead>
<tbody>
{% for source, row in rows.items() %}
<tr><td><bdi>{{ source|breakable }}</bdi>
{%- if row.seen %}<span class="seen">seen</span>{% endif %}</td>
{% for key in columns %}
<td>{{ row[key]|percent }}</td>
{% if key == "auroc" and has_interval %}
{% set ends = row.get("auroc_interval") %}
<td>{% if ends %}{{ ends|map("percent")|join(" to ") }}{% else %}unknown{% endif %}</td>
{% endif %}
{% endfor %}
{% if with_threshold %}<td>{{ rejected(source)|percent }}</td>{% endif %}
</tr>
{% endfor %}
</tbody>
</table></div>
{% endmacro %}
<h1><bdi>{{ metrics.known.source }}</bdi>: known classified, unknown rejected</h1>
<div class="cards">
<div><b>{{ metrics.known.accuracy|percent }} %</b><span>accuracy on known test images,
before any rejection</span></div>
<div><b>{{ selected|breakable }}</b><span>selected detector</span></div>
{% if worst_unseen %}
<div><b>{{ worst_unseen[1]|percent }} %</b><span>lowest AUROC among unseen sources
(<bdi>{{ worst_unseen[0]|breakable }}</bdi>)</span></div>
{% endif %}
<div><b>{{ accepted()|percent }} %</b><span>of known test images accepted at the
threshold</span></div>
</div>

<div class="verdict {{ verdict.decision }}">
<h2>Verdict: {{ verdict.said }}</h2>
{% if verdict.objections %}
<ul>{% for objection in verdict.objections %}
<li class="{{ objection.severity }}">{{ objection.sentence }}
<span>{{ objection.why }}</span></li>
{% endfor %}</ul>
{% endif %}
{% for fact in verdict.facts %}
<p>{{ fact }}</p>
{% endfor %}
<details><summary>What is looked at</summary>
<dl>{% for name, rule in rules.items() %}
<dt>{{ name|replace("_", " ") }}, {{ "at least" if rule.is_least else "at most" }}
{{ rule.limit }}{{ "" if rule.severity == "do_not_ship" else " (to look at)" }}</dt>
<dd>{{ rule.why }}</dd>
{% endfor %}</dl></details>
</div>

{% for sentence in rendering_sentences %}
<p>{{ sentence }}</p>
{% endfor %}

<h2>Results of {{ selected }}</h2>
{{ results(selected, metrics.detectors[selected].unknown, True) }}
<p>In percent. <span class="seen">seen</span> marks sources that training was exposed to
(other images of them); all others are new to the model. “Rejected” is the share of
unknown images above the threshold {{ threshold.value }}, chosen on
{{ "known validation" if validation else "these known test" }} images:
{{ threshold }}</p>
{% if has_interval %}
<p>The interval beside AUROC is that of the test images: with other images drawn alike,
such intervals hold the true value in 95 % of the cases (DeLong et al. 1988). What
another training would give is not allowed for.</p>
{% endif %}
<details><summary>What the columns mean</summary>
<dl>{% for measure in columns.values() %}
<dt>{{ measure.title }}</dt><dd>{{ measure.description }}</dd>
{% endfor %}</dl></details>

{% if renderings %}
<h2>AUROC over renderings</h2>
{{ box("AUROC over renderings") }}<table>
<thead><tr><th>unknown source</th><th>untouched&nbsp;↑</th>
<th>mild renderings&nbsp;↑</th><th>all renderings&nbsp;↑</th></tr></thead>
<tbody>
{% for source, row in renderings.summary.auroc.items() %}
<tr><td><bdi>{{ source|breakable }}</bdi></td><td>{{ row.untouched|percent }}</td>
<td>{{ row.mild|percent }}</td><td>{{ row.full_spectrum|percent }}</td></tr>
{% endfor %}
</tbody></table></div>
<p>The scores of the untouched images and of all renderings taken together (full
spectrum, Yang et al. 2023), known and unknown images rendered alike;
{{ "{:,}".format(metrics.renderings.known.images) }} known images.</p>
{% endif %}

{% if validation %}
<h2>Selection on validation data</h2>
{{ box("Selection on validation data") }}<table>
<thead><tr><th>detector</th>
{% for measure in validation_columns.values() %}
<th>{{ measure.title }}&nbsp;{{ measure.arrow }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for name, row in validation.items() %}
<tr{% if name == selected %} class="chosen"{% endif %}><td>{{ name|breakable }}</td>
{% for key in validation_columns %}<td>{{ row[key]|percent }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
<p>Known validation images against unknown images of the sources that training was
exposed to. Test images take no part in the choice.</p>
{% endif %}

{% if metrics.detectors|length > 1 %}
<h2>The other detectors on the test images</h2>
{% for name, detector in metrics.detectors.items() if name != selected %}
<details><summary>{{ name }}</summary>
{{ results(name, detector.unknown, False) }}
</details>
{% endfor %}
{% endif %}

{% for title, text, inches, image in figures %}
<h2>{{ title }}</h2>
<figure>{{ box(title, inches) }}<img alt="{{ title }}"
src="data:image/png;base64,{{ image }}"></div>
<figcaption>{{ text }}</figcaption></figure>
{% endfor %}

<h2>Data</h2>
{{ box("Data") }}<table class="text">
<thead><tr><th>role</th><th>source</th><th>images</th></tr></thead>
<tbody>
{% for role, source, size, seen in sizes %}
<tr><td>{{ role }}</td>
<td><bdi>{{ source|breakable }}</bdi>
{%- if seen %}<span class="seen">seen</span>{% endif %}</td>
<td>{{ "{:,}".format(size) }}</td></tr>
{% endfor %}
</tbody></table></div>

<h2>Protocol</h2>
{{ box("Protocol") }}<table class="text"><tbody>
{% for name, value in protocol.items() %}
<tr><th>{{ name }}</th><td>
{% if value is mapping %}
{% for key, entry in value.items() %}
{{ key }} {{ entry }}{{ "" if loop.last else "," }}
{% endfor %}
{% elif value is string or value is not sequence %}{{ value }}
{% else %}{{ value|join(", ") }}{% endif %}
</td></tr>
{% endfor %}
</tbody></table></div>
</body>
</html>
"""
)
