"""The model card says what the manifest says, and nothing else."""

import json
import re
import shutil

import pytest

from ood_keras import calibration, export
from ood_keras.export import model_card
from ood_keras.metrics.measures import BUILT_IN


def results(**unknown):
    """The content of `metrics.json`, `{source: (seen, AUROC)}`."""
    rows = {
        source: {
            "seen": seen,
            **{name: 0.125 for name in BUILT_IN},
            "auroc": auroc,
        }
        for source, (seen, auroc) in unknown.items()
    }
    return {
        "known": {"source": "mnist", "accuracy": 0.98765},
        "detectors": {"msp": {"unknown": {}}, "energy": {"unknown": rows}},
        "selected_detector": "msp",
    }


def manifest(**changes):
    threshold = calibration.conformal(range(100), target_acceptance=0.9).to_dict()
    return {
        "class_names": ["a|b", "c`d", "e_f"],
        "unknown_label": "__unknown__",
        "detector": {"name": "energy", "config": {}},
        "threshold": threshold,
        "operating_points": {"strict": threshold},
        "at_threshold": {
            "known": {"images": 2000, "accepted": 0.951, "accuracy_of_accepted": 0.997},
            "unknown": {
                "letters": {"images": 300, "rejected": 0.8765},
                "noise": {"images": 40, "rejected": 1.0},
                "drawings": {"images": 50, "rejected": 0.5},
            },
        },
        "input": {
            "image": {"dtype": "float32", "shape": [None, 28, 28, 1]},
            "image_bytes": {"conversion": "PNG or JPEG"},
        },
        "metrics": results(
            letters=(True, 0.5), noise=(False, 0.99), drawings=(False, 0.9321)
        ),
        "training": {
            "known": "mnist",
            "seed": 7,
            "recipe": {"name": "fast", "augment": None, "sizes": [1, 2]},
            "data": {"mnist/train": {"images": 55000, "sha256": "f" * 64}},
            "licences": {"mnist": "CC BY-SA 3.0"},
        },
        "created": "2026-11-23T10:00:00+00:00",
        "versions": {"ood_keras": "0.1.0"},
        "files": {"saved_model.pb": {"bytes": 1234567, "sha256": "0" * 64}},
        **changes,
    }


def table_row(page, start):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {start}")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_every_result_of_the_exported_detector_is_there():
    page = model_card.render(manifest())
    names = [measure.title for measure in BUILT_IN.values()]
    header = ["unknown source", "training", *names, "rejected", "images"]
    assert table_row(page, "unknown source") == header
    for source, seen, auroc, rejected, images in (
        ("letters", "seen", "50.00", "87.65", "300"),
        ("noise", "unseen", "99.00", "100.00", "40"),
        ("drawings", "unseen", "93.21", "50.00", "50"),
    ):
        rest = ["12.50"] * (len(BUILT_IN) - 1)
        expected = [f"`{source}`", seen, auroc, *rest, rejected, images]
        assert table_row(page, f"`{source}`") == expected
    assert "Accuracy 98.77 %" in page
    assert re.search(r"95\.10 % of the\s2,000 known .*\s.*99\.70 %", page)
    assert re.search(r"Weakest on `drawings`.*AUROC\s+93\.21", page)


def test_the_verdict_stands_before_all_else():
    content = manifest()
    content["at_threshold"]["verdict"] = {
        "said": "do not ship this model",
        "objections": [{"sentence": "9 of 10 <b>a_</b>|b pass."}],
        "facts": ["Of 10, 8 are kept."],
    }
    page = model_card.render(content)
    assert page.index("## Verdict: do not ship this model") < page.index("What it does")
    assert r"* **9 of 10 \<b\>a\_\</b\>\|b pass.**" in page
    assert "* Of 10, 8 are kept.\n" in page
    assert "Verdict" not in model_card.render(manifest())


def test_protocol_threshold_and_checksums_are_there():
    page = model_card.render(manifest())
    assert table_row(page, "seed") == ["seed", "7"]
    assert table_row(page, "recipe")[1] == "name fast, augment none, sizes 1, 2"
    assert table_row(page, "`mnist/train`") == [
        *("`mnist/train`", "55,000", f"`{'f' * 64}`")
    ]
    assert "* `mnist`: CC BY-SA 3.0" in page
    threshold = manifest()["threshold"]
    assert f"{threshold['value']}, chosen by `conformal`" in page
    assert page.count(threshold["guarantee"]) == 2
    assert table_row(page, "`saved_model.pb`") == [
        *("`saved_model.pb`", "1,234,567", f"`{'0' * 64}`")
    ]


def test_names_cannot_break_the_page():
    page = model_card.render(manifest())
    assert "`a|b`, `` c`d ``, `e_f`." in page
    training = {"note": "a|b *c* __d__\n<e> f_g"}
    page = model_card.render(manifest(training=training))
    assert table_row(page, "note")[1] == r"a\|b \*c\* \__d_\_ \<e\> f_g"


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"metrics": None}, "No results on unknown images were recorded"),
        ({"metrics": {"auroc": 0.9}}, "No results on unknown images were recorded"),
        ({"metrics": {"known": 3, "detectors": []}}, "No results on unknown images"),
        ({"training": None}, "was not told how the network was trained"),
    ],
)
def test_what_was_not_recorded_is_said_to_be_missing(changes, missing):
    page = model_card.render(manifest(**changes))
    assert missing in page
    assert "None" not in page and "none" not in changes


def test_what_the_threshold_does_is_left_out_after_recalibration():
    page = model_card.render(
        manifest(
            at_threshold=None, recalibrated_from={"version": "3", "created": "once"}
        )
    )
    assert "anew for version 3, which was\nexported once" in page
    assert "rejected |" not in page and "At the threshold" not in page
    assert table_row(page, "`noise`")[2] == "99.00"


def test_a_manifest_of_before_there_were_cards_has_one_too():
    old = manifest()
    for name in ("training", "at_threshold"):
        del old[name]
    assert "was not told" in model_card.render(old)


@pytest.mark.parametrize("kept", [("detection_error",), ()])
def test_results_without_an_auroc_name_no_weakest_source(kept):
    """`export.saved_model` takes the metrics that somebody has."""
    metrics = results(letters=(True, 0.5), noise=(False, 0.99))
    rows = metrics["detectors"]["energy"]["unknown"]
    metrics["detectors"]["energy"]["unknown"] = {
        source: {name: row[name] for name in ("seen", *kept)}
        for source, row in rows.items()
    }
    assert "Weakest on" in model_card.render(manifest())
    page = model_card.render(manifest(metrics=metrics))
    assert "Weakest on" not in page and "AUROC" not in page
    expected = ["`noise`", "unseen", *["12.50"] * len(kept), "100.00", "40"]
    assert table_row(page, "`noise`") == expected


@pytest.mark.parametrize("files", [..., None])
def test_a_model_that_takes_no_files_has_a_card(files):
    content = manifest()
    content["input"] = {**content["input"], "image_bytes": files}
    if files is ...:
        del content["input"]["image_bytes"]
    page = model_card.render(content)
    assert "out-of-range pixels give `valid` false" in page
    assert "Image files" not in page and "Image files" in model_card.render(manifest())


def test_the_exported_card_is_that_of_the_manifest(exported, tmp_path):
    content = json.loads((exported.path / "manifest.json").read_text())
    entry = content["files"].pop(model_card.NAME)
    text = (exported.path / model_card.NAME).read_text(encoding="utf-8")
    assert text == model_card.render(content)
    assert entry["bytes"] == len(text.encode())
    assert "Accuracy 50.00 %" in text and "`δύο`" in text


def test_a_changed_card_is_refused(exported, tmp_path):
    path = shutil.copytree(exported.path, tmp_path / "1")
    card = path / model_card.NAME
    card.write_text(card.read_text().replace("50.00 %", "99.99 %"))
    with pytest.raises(ValueError, match=r"MODEL_CARD\.md was changed"):
        export.load(path)
