"""`ood-robustness` on untrained networks, and the page made of what it writes."""

import dataclasses
import json
import pathlib

import keras
import pytest

from ood_keras import pipelines
from ood_keras.study import robustness_page, write_results
from ood_keras.training import recipes
from ood_keras.workflows import robustness as robustness_workflow

UNKNOWN = ["glyphs", "uniform_noise"]


def make_run(folder, *, block="modified_se", known="digits", seed=0):
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(seed)
    keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="features"),
            keras.layers.Dense(11, name="logits"),
        ]
    ).save(folder / "model.keras")
    settings = {
        "known": known,
        "unknown": ["glyphs"],
        "data_dir": None,
        "image_shape": None,
        "class_names": [f"class {index}" for index in range(10)],
        "recipe": dataclasses.asdict(recipes.get("demo", block=block)),
    }
    run = {"settings": settings, "seed": seed}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("robustness")
    output = folder / "results/robustness/digits"
    result = robustness_workflow.measure_robustness(
        run_dirs=[
            make_run(folder / "with"),
            make_run(folder / "without", block="none", seed=1),
        ],
        unknown=UNKNOWN,
        output=output,
        detectors=["unknown_probability", "energy"],
        num_images=20,
    )
    return folder, result


def test_files_hold_what_is_returned(measured):
    folder, result = measured
    output = folder / "results/robustness/digits"
    assert json.loads((output / "robustness.json").read_text()) == result
    assert {path.name for path in output.iterdir()} == {
        "robustness.json",
        "curves.png",
        "densities.png",
        "inputs.png",
        "renderings.png",
        "rendering_curves.png",
    }
    said = robustness_workflow.describe(result)
    assert said.count(" % accepted and misread") == 4
    assert said.count("mild renderings, ") == 4
    for network in result["networks"].values():
        rendered = network["renderings"]
        assert rendered["kind"] == "drawing" and rendered["known"]["images"] == 20
        for name, one in network["detectors"].items():
            measured_steps = rendered["detectors"][name]
            assert measured_steps["threshold"] == one["threshold"]
            rejected = measured_steps["steps"][0]["unknown"]["glyphs"]["rejected"]
            assert rejected == one["unknown_rejected"]["glyphs"]


def test_every_network_and_detector_is_measured(measured):
    _, result = measured
    assert result["known"] == {"source": "digits", "images": 20}
    assert {name: one["images"] for name, one in result["data"].items()} == {
        "digits/train": len(pipelines.load("digits").train),
        "digits/validation": len(pipelines.load("digits").validation),
        "digits/test": 20,
        "glyphs/test": 20,
        "uniform_noise/test": 20,
    }
    assert list(result["networks"]) == ["with the modified block", "without the block"]
    accuracies = set()
    for network in result["networks"].values():
        assert network["seen"] == ["glyphs"]
        assert list(network["detectors"]) == ["unknown_probability", "energy"]
        for one in network["detectors"].values():
            assert set(one["unknown_rejected"]) == set(UNKNOWN)
            strengths = [point["strength"] for point in one["perturbations"]["pgd"]]
            assert strengths == [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]
            points = one["perturbations"]["white_noise"]
            accuracies.add(tuple(point["known"]["accuracy"] for point in points))
    # One for each network, whatever the detector.
    assert len(accuracies) == 2


def test_page_shows_the_numbers_and_the_pictures(measured, monkeypatch):
    folder, result = measured
    monkeypatch.chdir(folder)
    page = robustness_page.page(pathlib.Path("results/robustness"))
    assert "20 test images" in page
    assert "![" in page and "](../results/robustness/digits/curves.png)" in page
    assert (
        "`ood-robustness --run_dir=RUN --compare_with=RUN "
        "--unknown=glyphs,uniform_noise --detectors=unknown_probability,energy "
        "--num_images=20 --output=results/robustness/digits`"
    ) in page
    network = result["networks"]["without the block"]["detectors"]
    strongest = network["unknown_probability"]["perturbations"]["pgd"][-1]
    pgd = strongest["known"]
    (line,) = [
        line
        for line in page.partition("network without the block")[2].splitlines()
        if line.startswith("| PGD | 0.3 |")
    ]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    shares = (pgd["accuracy"], pgd["rejected"], pgd["accepted_wrong"])
    assert cells[2:5] == [f"{100 * share:.2f}" for share in shares]
    # Training was shown glyphs.
    unseen = strongest["unknown"]["uniform_noise"]["auroc"]
    assert unseen != strongest["unknown"]["glyphs"]["auroc"]
    assert cells[5] == f"{100 * unseen:.2f}"
    assert "glyphs (seen) " in page
    shares = [
        point["known"]["accepted_wrong"]
        for points in network["energy"]["perturbations"].values()
        for point in points
    ]
    assert (
        "accepted with a wrong class is" in page
        and f"{100 * max(shares):.2f} % by `energy`" in page
    )
    sentence = page.partition("### digits: network without the block")[2]
    sentence = sentence.partition("Over all perturbations")[0]
    points = network["unknown_probability"]["perturbations"]
    for text, name, strength in (
        ("without a perturbation", "fgsm", 0),
        ("under Gaussian noise of standard deviation 1", "gaussian_noise", 1),
        ("under FGSM at 0.1", "fgsm", 0.1),
    ):
        (point,) = [one for one in points[name] if one["strength"] == strength]
        right = f"{100 * point['known']['accuracy']:.2f} % are classified correctly"
        assert f"{text}, {right}" in sentence
    clean, noisy = (
        point["known"]["accuracy"]
        for point in points["gaussian_noise"]
        if point["strength"] in (0, 1)
    )
    like = "Like" if noisy > clean - 0.05 else "Unlike"
    assert f"{like} the paper, we find that Gaussian noise" in sentence
    (attacked,) = [one for one in points["fgsm"] if one["strength"] == 0.1]
    auroc = attacked["unknown"]["uniform_noise"]["auroc"]
    can = "can still" if auroc > 0.9 else "can no longer"
    assert f"under FGSM at 0.1 {can} be told from unknown ones" in sentence
    assert f"AUROC of `unknown_probability` is {100 * auroc:.2f} %," in sentence
    assert ("look more unknown" in sentence) == (auroc < 0.5)
    pathlib.Path("README.md").write_text("<!-- results: run -->\n<!-- end -->")
    monkeypatch.setattr(write_results, "insert_results", lambda text: text)
    assert write_results.pages()[pathlib.Path("docs/robustness.md")] == page


def test_runs_of_one_kind_are_told_apart_by_their_folders(tmp_path):
    arguments = {"unknown": ["uniform_noise"], "output": tmp_path, "num_images": 4}
    first = make_run(tmp_path / "a/run")
    second = make_run(tmp_path / "b/run")
    result = robustness_workflow.measure_robustness(
        run_dirs=[first, second], **arguments
    )
    assert list(result["networks"]) == ["a/run", "b/run"]
    for network in result["networks"].values():
        assert list(network["detectors"]) == ["unknown_probability", "msp", "energy"]
    with pytest.raises(ValueError, match="must be different ones"):
        robustness_workflow.measure_robustness(
            run_dirs=[first, tmp_path / "b/../a/run"], **arguments
        )
    with pytest.raises(ValueError, match=r"the same known images.*glyphs"):
        robustness_workflow.measure_robustness(
            run_dirs=[first, make_run(tmp_path / "c/other", known="glyphs")],
            **arguments,
        )
    with pytest.raises(FileNotFoundError, match="ood-train"):
        robustness_workflow.measure_robustness(
            run_dirs=[tmp_path / "none"], **arguments
        )
