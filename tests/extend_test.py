"""What docs/guides/extend.md shows is done as it says."""

import pathlib
import re
import sys

import keras
import numpy as np
import pytest

from ood_keras import (
    calibration,
    detectors,
    evaluation,
    metrics,
    pipelines,
    plugins,
    training,
)
from ood_keras.calibration import registry
from ood_keras.detectors import registry as detector_registry
from ood_keras.metrics import measures
from ood_keras.pipelines import augmentations
from ood_keras.pipelines.sources import registry as source_registry
from ood_keras.tools import app

PAGE = pathlib.Path(__file__).resolve().parents[1] / "docs/guides/extend.md"


@pytest.fixture
def own_registries(monkeypatch):
    """What is registered is forgotten after the test."""
    for owner, name in (
        (detector_registry, "_CLASSES"),
        (training.objectives, "_OBJECTIVES"),
        (augmentations, "_AUGMENTATIONS"),
        (source_registry, "_SOURCES"),
        (evaluation.renderings, "_RENDERINGS"),
    ):
        monkeypatch.setattr(owner, name, dict(getattr(owner, name)))
    monkeypatch.setattr(measures, "_ALL", dict(measures._ALL))
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


@pytest.fixture
def plugin(tmp_path, monkeypatch, own_registries):
    """All examples of the page, as one module outside the package."""
    monkeypatch.syspath_prepend(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "a_plugin_of_the_page.py").write_text("\n".join(blocks))
    yield plugins.load(["a_plugin_of_the_page"])[0]
    del sys.modules["a_plugin_of_the_page"]


def test_the_examples_of_the_page(plugin):
    known, unknown = np.arange(200.0), np.arange(190.0, 290.0)
    row = metrics.evaluate_scores(known, unknown, further=["fpr99"])
    assert row["fpr99"] == np.mean(unknown <= 197)
    assert metrics.keras_metric("fpr99")._direction == "down"
    method = calibration.get("cautious", of_known_scores=True)
    threshold = method(known, 0.9)
    assert threshold.method == "cautious"
    assert threshold.target_acceptance == 0.9
    assert threshold.accepts(known).mean() == 0.95
    assert isinstance(detectors.get("largest_feature"), plugin.LargestFeature)
    model = keras.Sequential([keras.Input((2, 1, 1)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(2))
    images, labels = np.float32([[0, 0], [2, 0], [0.5, 1]]), [0, 1, -1]
    data = images.reshape(-1, 2, 1, 1), np.array(labels)
    distance = detectors.get("distance_to_mean").fit(model, data)
    assert isinstance(distance, plugin.DistanceToMean)
    # The mean is of the two known images, (1, 0).
    np.testing.assert_allclose(
        distance.score(data[0]), [1, 1, np.sqrt(1.25)], rtol=1e-6
    )
    recipe = training.recipes.get("fast", loss="cross_entropy_by_adam")
    assert isinstance(recipe.objective, plugin.CrossEntropyByAdam)
    assert type(recipe.objective.build_optimizer(10)).__name__ == "Adam"
    source = pipelines.load("bars_and_dots[bar]")
    assert source.class_names == ("bar",)
    assert len(source.train) == 275  # Every twelfth of 300 is for validation.
    assert len(source.test) == 100
    # 26 of 28 rows of a bar are bright, 6 of a dot.
    test = pipelines.load("bars_and_dots").test
    rows = (test.images > 240).any(axis=(2, 3)).sum(axis=1)
    assert set(rows[test.labels == 0]) == {6}
    assert rows[test.labels == 1].min() > 6
    speckles = pipelines.load("speckles", count=20).test
    assert set(np.unique(speckles.images)) == {0, 255}
    assert set(speckles.labels) == {-1}
    assert pipelines.augmentations.get("random_mirror") is plugin.random_mirror
    images = test.images[:40] / np.float32(255)
    mirrored = plugin.random_mirror(images, [1, 2]).numpy()
    is_mirrored = (mirrored != images).any(axis=(1, 2, 3))
    assert 0 < is_mirrored.sum() < 40
    np.testing.assert_array_equal(
        mirrored[is_mirrored], images[is_mirrored][:, :, ::-1]
    )
    step = evaluation.renderings.suite("drawing", short=True)[-1]
    assert step.title == "corner of 0.1 of the size hidden"
    assert (step(np.ones((1, 20, 20, 1), np.float32)) == 0).sum() == 4
    assert [run.name for run in plugin.STUDY.runs(seeds=[1])] == [
        "digits/with_block/seed_1",
        "digits/without/seed_1",
    ]
    plugin.STUDY.check_names(detectors.names())


def test_a_command_takes_a_plugin_by_name(plugin, monkeypatch, capsys):
    flag_values = app.Flags()
    known = []
    app.run(
        "ood-test",
        "Tests.",
        flag_values,
        lambda: known.extend(detectors.names()),
        ["ood-test", "--plugin=a_plugin_of_the_page"],
    )
    assert "largest_feature" in known
    with pytest.raises(SystemExit):
        app.run(
            "ood-test", "", app.Flags(), print, ["ood-test", "--plugin=no_such_one"]
        )
    assert "no module 'no_such_one'" in capsys.readouterr().err


def run_cell(section, name, text=None):
    """Runs the code of a section of the page as the module `name` would; its names."""
    page = PAGE.read_text() if text is None else text
    section = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", page, re.M | re.S)[1]
    code = "\n".join(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL))
    # What the sections before it have imported.
    names = {"__name__": name, "keras": keras, "np": np, "pipelines": pipelines}
    exec(code, names)
    return names


@pytest.mark.parametrize(
    ("section", "find", "change"),
    [
        ("A detector", lambda: detectors.get("distance_to_mean").__class__, None),
        (
            "A data source",
            lambda: source_registry.find("bars_and_dots").open,
            None,
        ),
        ("An augmentation", lambda: augmentations.get("random_mirror"), None),
        (
            "A training method",
            lambda: training.objectives.get("cross_entropy_by_adam"),
            None,
        ),
        # Its formula is the library's; with other arguments it is another one.
        ("A metric", lambda: metrics.get("fpr99"), ("tpr=0.99", "tpr=0.98")),
        ("A threshold method", lambda: calibration.get("cautious"), None),
        (
            "A rendering",
            lambda: evaluation.renderings._RENDERINGS["hide_corner"].render,
            None,
        ),
    ],
)
def test_a_cell_may_run_twice_and_another_module_not_take_its_names(
    own_registries, section, find, change
):
    run_cell(section, "__main__")
    first = find()
    cell = run_cell(section, "__main__")
    assert find() is not first
    if change is None:
        assert find() in cell.values()
    page = PAGE.read_text().replace(*(change or ("", "")))
    with pytest.raises(ValueError, match=r"is (__main__|ood_keras\.).* already; give"):
        run_cell(section, "of_somebody_else", page)
