"""A runtime that is not TensorFlow opens the export and decides alike."""

import numpy as np
import pytest

from ood_keras import export


@pytest.fixture(scope="module")
def run(exported):
    """`run(images)`: the answers of `serving_default` by name."""
    openvino = pytest.importorskip(
        "openvino", reason="needs the package openvino, a runtime of its own"
    )
    core = openvino.Core()
    # Its default on a CPU may be bfloat16.
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    model = core.compile_model(core.read_model(exported.path), "CPU")

    def answers(images):
        return {
            output.get_any_name(): value
            for output, value in model({"image": images}).items()
        }

    return answers


def check(answer, expected):
    for name in ("class_id", "accepted", "valid", "label"):
        np.testing.assert_array_equal(answer[name], expected[name], name)
    for name in ("probabilities", "ood_score"):
        np.testing.assert_allclose(
            answer[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize("count", [1, 7, 50])
def test_batches_of_any_size_are_decided_alike(run, exported, count):
    images = exported.images[:count]
    check(run(images), export.load(exported.path).predict(images))


def test_garbage_is_refused_and_leaves_its_neighbours_alone(run, exported):
    images = exported.images[:8].copy()
    images[1, 2, 3], images[3, 0, 0], images[4, 1, 1] = np.nan, np.inf, -np.inf
    images[6] = exported.pixels[6]
    answer = run(images)
    bad = [1, 3, 4, 6]
    np.testing.assert_array_equal(np.flatnonzero(~answer["valid"]), bad)
    np.testing.assert_array_equal(answer["class_id"][bad], -1)
    assert not answer["accepted"][bad].any()
    check(answer, export.load(exported.path).predict(images))


def test_a_wrong_shape_is_an_error(run, exported):
    with pytest.raises(RuntimeError):
        run(exported.images[:, 1:])
