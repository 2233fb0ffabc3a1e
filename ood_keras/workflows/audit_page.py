"""The page of an audit: one HTML file with the pictures in it."""

import base64
import io

import numpy as np

from ood_keras import image_files
from ood_keras.evaluation import page
from ood_keras.pipelines import audit as data_audit
from ood_keras.pipelines.sources import pictures
from ood_keras.pipelines.split import ROLES
from ood_keras.types import Json
from ood_keras.workflows import cost

# So many groups of a finding are shown with pictures, and so many pictures of each.
_NUM_GROUPS, _NUM_PICTURES = 48, 6
_SIDE = 128


def render(
    collection: data_audit.Collection,
    findings: list[data_audit.Finding],
    estimate: Json | None = None,
    no_cost: str | None = None,
) -> str:
    """Returns the page as text.

    Args:
        collection: The pictures.
        findings: What is wrong with them.
        estimate: What a training would cost, see `cost.estimate`, or `None`.
        no_cost: What to say in place of it, or `None`.
    """
    sources = [
        (
            source,
            data_audit.counts(collection, number),
            data_audit.sizes(collection, number),
        )
        for number, source in enumerate(collection.sources)
    ]
    template = page.new_environment().from_string(_TEMPLATE)
    return template.render(
        sources=sources,
        roles=ROLES,
        spoils=data_audit.spoils(findings),
        findings=[
            (finding, _SEVERITIES[finding.severity], _figures(collection, finding))
            for finding in findings
        ],
        cost=no_cost if estimate is None else cost.describe(estimate),
    )


_SEVERITIES = {
    "spoils": "spoils the result",
    "look": "look at it",
    "note": "good to know",
}


def _figures(collection, finding):
    """`[(line, [data of a picture])]`, the latter empty where there is none to show."""
    shown = []
    for place, line in enumerate(finding.lines):
        group = finding.groups[place] if place < len(finding.groups) else ()
        images = []
        if place < _NUM_GROUPS:
            some = (collection.pictures[row] for row in group[:_NUM_PICTURES])
            images = [data for data in map(_thumbnail, some) if data]
        shown.append((line, images))
    return shown


def _thumbnail(picture: data_audit.Picture) -> str | None:
    """A small JPEG of a picture, in base64; `None` if it cannot be read."""
    from PIL import Image

    if picture.error is not None:
        return None
    pixels = picture.image
    if pixels is None and picture.file is not None:
        try:
            content = picture.file.read_bytes()
            pixels = pictures.decode(content, picture.file, image_files.BACKGROUND)
        except (OSError, ValueError):  # Changed since it was read.
            return None
    if pixels is None:
        return None
    if pixels.shape[2] not in (1, 3):  # Of arrays.
        return None
    image = Image.fromarray(np.squeeze(pixels, 2) if pixels.shape[2] == 1 else pixels)
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return base64.b64encode(stream.getvalue()).decode()


_TEMPLATE = (
    """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Audit of {{ sources|map(attribute="0.spec")|join(", ") }}</title>
<style>
"""
    + page.STYLE
    + """\
.groups { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1rem 0; }
.groups figure { margin: 0; max-width: 100%; }
.groups img { padding: .2rem; width: 8rem; height: 8rem; object-fit: contain; }
.groups figcaption { font-size: .8rem; max-width: 17rem; }
ul { padding-left: 1.2rem; }
.spoils { border-left: 4px solid #bd1f01; padding-left: .8rem; }
</style>
</head>
<body>
<h1>{% if spoils %}Something here would spoil the result{% else %}Nothing here would
spoil the result{% endif %}</h1>
{% for source, counts, sizes in sources %}
<h2><bdi>{{ source.spec|breakable }}</bdi>, {{ source.kind }}</h2>
{% if source.is_made %}<p>Its images are made, not looked at.</p>{% else %}
<div class="scroll" tabindex="0" role="region" aria-label="Pictures by class">
<table>
<thead><tr><th>class</th>{% for role in roles %}<th>{{ role }}</th>{% endfor %}
<th>all</th><th>height x width</th></tr></thead>
<tbody>
{% for name, count in counts.items() %}
<tr><td><bdi>{{ ("(unknown)" if name is none else name)|breakable }}</bdi></td>
{% for role in roles %}<td>{{ "{:,}".format(count.get(role, 0)) }}</td>{% endfor %}
<td>{{ "{:,}".format(count.values()|sum) }}</td>
<td>{{ sizes.get(name, "") }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endif %}
{% endfor %}
{% for finding, severity, figures in findings %}
<section class="{{ finding.severity }}">
<h2>{{ finding.title }} <span class="seen">{{ severity }}</span></h2>
<p>{{ finding.advice }}</p>
<div class="groups">
{% for line, images in figures if images %}
<figure>{% for image in images %}<img alt="" loading="lazy"
src="data:image/jpeg;base64,{{ image }}">{% endfor %}
<figcaption><bdi>{{ line }}</bdi></figcaption></figure>
{% endfor %}
</div>
{% set others = figures|rejectattr("1")|list %}
{% if others %}
<details{% if others|length <= 20 %} open{% endif %}>
<summary>{{ others|length }} without pictures</summary>
<ul>{% for line, _ in others %}<li><bdi>{{ line }}</bdi></li>{% endfor %}</ul></details>
{% endif %}
</section>
{% endfor %}
{% if cost %}<h2>What a training would cost</h2><p>{{ cost }}</p>{% endif %}
</body>
</html>
"""
)
