"""`ood-robustness --model`: an exported model in other renderings, and its page."""

import json

import numpy as np
import pytest

from ood_keras import export, pipelines
from ood_keras.evaluation import renderings
from ood_keras.study import renderings_page
from ood_keras.tools import robustness as command
from ood_keras.workflows import renderings as workflow

MODEL = "saved_models/mnist/1"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    output = tmp_path_factory.mktemp("results") / "renderings" / "some"
    result = workflow.measure_renderings(
        model=MODEL,
        known="digits",
        unknown=["glyphs"],
        output=output,
        short=True,
        num_images=30,
    )
    return output, result


def test_it_measures_what_the_model_answers(measured):
    output, result = measured
    written = json.loads((output / "renderings.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert (output / "renderings.png").stat().st_size > 10_000
    predictor = export.load(MODEL)
    ((name, found),) = written["detectors"].items()
    assert name == predictor.manifest["detector"]["name"]
    assert found["threshold"] == predictor.threshold
    # All glyphs, in one rendering, bound what a part of them can be.
    glyphs = pipelines.load("glyphs").whole_test()
    images = glyphs.images / np.float32(255)
    accepted = predictor.predict(images)["accepted"]
    of_class = written["classes"]["glyphs"]
    for label, letter in enumerate(glyphs.class_names):
        rows = glyphs.labels == label
        assert of_class[letter]["images"] == rows.sum()
        assert of_class[letter]["accepted"] == pytest.approx(accepted[rows].mean())
    step = next(
        step for step in renderings.suite("drawing") if step.name == "binary=0.5"
    )
    if not predictor.predict(step(images))["accepted"].any():
        row = next(row for row in found["steps"] if row["name"] == step.name)
        assert row["unknown"]["glyphs"]["rejected"] == 1


def test_the_page_says_what_was_measured(measured):
    output, result = measured
    page = renderings_page.page(output.parent)
    (found,) = result["detectors"].values()
    summary = found["summary"]
    assert f"{100 * summary['accepted']['mean']:.2f}" in page
    assert f"{100 * summary['auroc']['glyphs']['full_spectrum']:.2f}" in page
    for row in found["steps"]:
        assert f"| {row['title']} | {100 * row['known']['accepted']:.2f} |" in page


def test_groups_of_letters_are_weighted_by_their_images():
    models = [
        {
            "name": "m",
            "classes": {
                "emnist/letters": {
                    "A": {"images": 30, "accepted": 0.1, "auroc": 0.9},
                    "K": {"images": 10, "accepted": 0.5, "auroc": 0.5},
                    "O": {"images": 40, "accepted": 1.0, "auroc": 0.4},
                }
            },
        }
    ]
    rows = dict(
        (row[0], row[1:])
        for row in renderings_page._compare_letters(models)["groups"].rows
    )
    assert rows["no digit by shape"] == ["20.00", "80.00"]
    assert rows["like a digit by shape"] == ["100.00", "40.00"]
    assert rows["all"] == ["60.00", "60.00"]
    assert renderings_page._compare_letters([{"name": "m", "classes": {}}]) is None


def test_wrong_input_is_explained(tmp_path):
    with pytest.raises(
        ValueError, match=r"glyphs has 19 classes, saved_models/mnist/1 has 10"
    ):
        workflow.measure_renderings(
            model=MODEL, known="glyphs", unknown=["digits"], output=tmp_path
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "either --run_dir or --model"),
        (["--run_dir=x", f"--model={MODEL}"], "either --run_dir or --model"),
        ([f"--model={MODEL}", "--compare_with=x"], "leave out --compare_with"),
        ([f"--model={MODEL}", "--renderings=none"], "leave out --renderings"),
    ],
)
def test_flags_that_do_not_go_together(arguments, says, monkeypatch, capsys):
    argv = ["ood-robustness", "--unknown=glyphs", "--output=x", *arguments]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit):
        command.main()
    command._FLAGS.unparse_flags()
    for name in command._FLAGS:
        command._FLAGS[name].unparse()
    assert says in capsys.readouterr().err
