"""What `Report.save` leaves on disk."""

import html.parser
import json

import numpy as np
import pages
import pytest
from PIL import Image

from ood_keras.evaluation import page


def test_metrics_json_is_the_metrics(case, run_dir):
    text = (run_dir / "metrics.json").read_text()
    assert json.loads(text) == case.report.metrics
    assert "NaN" not in text


def test_scores_npz_needs_no_pickle_and_keeps_slashes(case, run_dir):
    with np.load(run_dir / "scores.npz", allow_pickle=False) as file:
        arrays = dict(file)
    detectors = list(case.fitted)
    assert set(arrays) == {
        "labels/known",
        "predictions/known",
        "confidence/known",
        "predictions/validation/known",
        "predictions/validation/unknown",
        *(f"known/{name}" for name in detectors),
        *(f"validation/{role}/{n}" for role in ("known", "unknown") for n in detectors),
        *(
            key
            for source in case.unknown
            for key in (
                f"predictions/unknown/{source}",
                f"confidence/unknown/{source}",
                *(f"unknown/{source}/{name}" for name in detectors),
            )
        ),
    }
    for key, values in case.report.scores.items():
        np.testing.assert_array_equal(arrays[key], values)
        assert values.dtype == (np.int32 if key[0] in "lp" else np.float32)


def test_figures_are_png(run_dir):
    figures = sorted((run_dir / "figures").iterdir())
    assert [path.name for path in figures] == [
        "density.png",
        "examples.png",
        "features_2d.png",
        "grid.png",
        "roc.png",
    ]
    for path in figures:
        assert path.read_bytes().startswith(b"\x89PNG")


class _Links(html.parser.HTMLParser):
    """Collects whatever a browser would fetch, and the text."""

    def __init__(self):
        super().__init__()
        self.links, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.text += data


def test_report_needs_nothing_from_outside(run_dir):
    source = (run_dir / "report.html").read_text()
    parsed = _Links()
    parsed.feed(source)
    assert len(parsed.links) == 5
    assert all(link.startswith("data:image/png;base64,") for link in parsed.links)
    assert not {"script", "link", "iframe"} & set(parsed.tags)
    for word in ("http:", "https:", "url(", "@import"):
        assert word not in source


def test_report_says_what_was_done(case, run_dir):
    parsed = _Links()
    parsed.feed((run_dir / "report.html").read_text())
    metrics = case.report.metrics
    selected = metrics["selected_detector"]
    row = metrics["detectors"][selected]["unknown"]["emnist/letters"]
    for expected in (
        f"{100 * metrics['known']['accuracy']:.2f} %",
        f"{100 * row['auroc']:.2f}",
        f"{100 * row['fpr95_known_positive']:.2f}",
        f"{100 * (1 - case.report.accepted('emnist/letters')):.2f}",
        "seen",
        "digits, emnist/letters",
        str(case.report.threshold),
        *case.fitted,
        *page.versions().values(),
    ):
        assert expected in parsed.text, expected


def test_names_are_escaped(run_dir):
    source = (run_dir / "report.html").read_text()
    assert "<b>noise" not in source
    assert "&lt;b&gt;noise&lt;/b&gt; &amp; co" in source


def test_names_end_their_lines_between_words(run_dir):
    source = (run_dir / "report.html").read_text()
    assert "<b>unknown_<wbr>probability</b>" in source
    assert "<bdi>emnist/<wbr>letters</bdi>" in source
    # What stands for a character is no word.
    assert "<bdi>&lt;b&gt;noise&lt;/b&gt; &amp; co</bdi>" in source


@pytest.fixture(scope="module")
def phone(run_dir):
    with pages.on_phone(run_dir / "report.html") as page:
        yield page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_what_is_too_wide_scrolls_and_says_so(phone, scheme):
    phone.emulate_media(color_scheme=scheme)
    assert pages.width(phone) == pages.WIDTH
    for place in (".scroll:has(table)", "figure .scroll"):
        box = phone.locator(place).first
        assert pages.hidden(box) > 50
        assert pages.shadows(box) == (False, True)
        pages.scroll_to_end(box)
        # The first column of a table stays in sight, and is over the shadow there.
        assert pages.shadows(box) == ("figure" in place, False)
        box.evaluate("box => { box.scrollLeft = 0; }")
    protocol = phone.locator(".scroll:has(table.text)").last
    assert pages.hidden(protocol) == 0
    assert pages.shadows(protocol) == (False, False)


def test_on_a_phone_the_first_column_stays_in_sight(phone):
    box = phone.locator(".scroll:has(table)").first
    cell = box.locator("tbody td").first
    before = cell.bounding_box()["x"]
    pages.scroll_to_end(box)
    assert cell.bounding_box()["x"] == before
    box.evaluate("box => { box.scrollLeft = 0; }")


def test_figures_are_at_least_as_large_as_they_were_drawn(phone, run_dir):
    # At 96 pixels to the inch, where letters of 9 points are 12 pixels high.
    drawn = []
    for path in (run_dir / "figures").glob("*.png"):
        with Image.open(path) as image:
            drawn.append(round(image.width / image.info["dpi"][0] * 96))
    shown = phone.locator("figure img").evaluate_all(
        "images => images.map(image => image.getBoundingClientRect().width)"
    )
    assert sorted(shown) == pytest.approx(sorted(drawn), abs=1)


def test_on_a_desk_nothing_needs_to_scroll(phone):
    phone.emulate_media(color_scheme="light")
    phone.set_viewport_size({"width": 1200, "height": 900})
    for box in phone.locator(".scroll").all():
        assert pages.hidden(box) == 0
    assert pages.shadows(phone.locator("figure .scroll").first) == (False, False)
    phone.set_viewport_size({"width": pages.WIDTH, "height": pages.HEIGHT})


def test_saving_twice_gives_the_same_bytes(case, run_dir, tmp_path):
    case.report.save(tmp_path)
    for name in ("scores.npz", "metrics.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (run_dir / name).read_bytes()


def test_metrics_json_comes_last(case, tmp_path, monkeypatch):
    def fail(report, images):
        raise RuntimeError("no page")

    monkeypatch.setattr(page, "render", fail)
    with pytest.raises(RuntimeError, match="no page"):
        case.report.save(tmp_path)
    assert not (tmp_path / "metrics.json").exists()


def test_a_folder_that_cannot_be_written_is_an_error(case, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="could not write"):
        case.report.save(tmp_path / "file")
