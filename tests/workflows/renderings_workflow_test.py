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


UNKNOWN = "glyphs[0,1]"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    output = tmp_path_factory.mktemp("results") / "renderings" / "some"
    result = workflow.measure_renderings(
        model=MODEL,
        known="digits",
        unknown=[UNKNOWN],
        output=output,
        short=True,
        # More than there are, so that all are taken.
        num_images=400,
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
    known = pipelines.load("digits", image_shape=(28, 28, 1)).test
    unknown = pipelines.load(UNKNOWN).whole_test()
    rows = {row["name"]: row for row in found["steps"]}
    renders = {"untouched": lambda images: images}
    renders |= {
        step.name: step
        for step in renderings.suite("drawing", short=True)
        if step.name in ("binary=0.5", "darker=0.7", "turn_left=10")
    }
    assert len(renders) == 4
    for step, render in renders.items():
        answer = predictor.predict(render(known.images / np.float32(255)))
        right = answer["probabilities"].argmax(axis=1) == known.labels
        accepted = answer["accepted"]
        assert rows[step]["known"] == {
            "accepted": pytest.approx(accepted.mean()),
            "accuracy": pytest.approx(right.mean()),
            "accepted_right": pytest.approx((accepted & right).mean()),
        }
        answer = predictor.predict(render(unknown.images / np.float32(255)))
        rejected = rows[step]["unknown"][UNKNOWN]["rejected"]
        assert rejected == pytest.approx(1 - answer["accepted"].mean())
        if step == "untouched":
            of_class = written["classes"][UNKNOWN]
            for label, letter in enumerate(unknown.class_names):
                chosen = unknown.labels == label
                assert of_class[letter]["images"] == chosen.sum()
                assert of_class[letter]["accepted"] == pytest.approx(
                    answer["accepted"][chosen].mean()
                )


def test_images_of_the_training_do_not_come_back_as_test_images(tmp_path, monkeypatch):
    """A source without a test part is tested on as a whole, unless it was shown."""
    specs = []
    for seed, name in enumerate(("shown", "other")):
        images = np.random.default_rng(seed).integers(0, 256, (50, 28, 28, 1), np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=np.arange(50) % 2)
        specs.append(f"npz:{tmp_path / name}.npz")
    predictor = export.load(MODEL)
    training = {**predictor.manifest["training"], "unknown": specs[:1]}
    monkeypatch.setitem(predictor.manifest, "training", training)
    monkeypatch.setattr(workflow.exporting, "load", lambda _: predictor)
    result = workflow.measure_renderings(
        model=MODEL,
        known="digits",
        unknown=specs,
        output=tmp_path / "output",
        short=True,
        num_images=4,
    )
    images = {name: part["images"] for name, part in result["data"].items()}
    shown = pipelines.load(specs[0]).test
    assert images[f"{specs[0]}/test"] == len(shown) < 50
    assert images[f"{specs[1]}/test"] == 50


def test_the_page_says_what_was_measured(measured):
    output, result = measured
    page = renderings_page.page(output.parent)
    (found,) = result["detectors"].values()
    summary = found["summary"]
    assert f"{100 * summary['accepted']['mean']:.2f}" in page
    assert f"{100 * summary['auroc'][UNKNOWN]['full_spectrum']:.2f}" in page
    for row in found["steps"]:
        assert f"| {row['title']} | {100 * row['known']['accepted']:.2f} |" in page


def test_groups_of_letters_are_weighted_by_their_images():
    models = [
        {
            "name": "m",
            "known": {"source": "mnist"},
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
    # Of clothes, no letter is a digit by shape.
    clothes = [{**models[0], "known": {"source": "fashion_mnist"}}]
    assert renderings_page._compare_letters(clothes) is None
    assert renderings_page._compare_letters([{**models[0], "classes": {}}]) is None


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
