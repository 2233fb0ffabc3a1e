"""What the exported graph answers, in a Session and in Python."""

import numpy as np
import pytest
import tensorflow as tf

from ood_keras.export import image_bytes, serving

LARGEST = np.finfo(np.float32).max
DTYPES = {
    "class_id": np.int32,
    "label": object,
    "probabilities": np.float32,
    "ood_score": np.float32,
    "accepted": np.bool_,
    "valid": np.bool_,
}


def assert_refused(answer, rows, valid=False):
    np.testing.assert_array_equal(answer["valid"][rows], valid)
    assert not answer["accepted"][rows].any()
    np.testing.assert_array_equal(answer["class_id"][rows], -1)
    assert set(answer["label"][rows]) == {b"__unknown__"}
    np.testing.assert_array_equal(answer["ood_score"][rows], LARGEST)
    np.testing.assert_array_equal(answer["probabilities"][rows], 0)


def test_it_answers_as_the_live_model(run, exported):
    answer = run("serving_default", image=exported.images)
    logits = exported.model.predict(exported.images, verbose=0).astype(np.float64)
    powers = np.exp(logits[:, :3])
    accepted = exported.threshold.accepts(exported.detector.score(exported.images))
    best = logits[:, :3].argmax(-1)
    assert accepted.any() and not accepted.all()
    np.testing.assert_array_equal(answer["accepted"], accepted)
    np.testing.assert_array_equal(answer["class_id"], np.where(accepted, best, -1))
    names = np.array([*exported.class_names, "__unknown__"])
    np.testing.assert_array_equal(
        [label.decode() for label in answer["label"]],
        names[np.where(accepted, best, 3)],
    )
    np.testing.assert_allclose(
        answer["probabilities"], powers / powers.sum(-1, keepdims=True), atol=1e-6
    )
    np.testing.assert_allclose(
        answer["ood_score"], logits[:, 3] - np.log(powers.sum(-1)), atol=1e-5
    )
    assert answer["valid"].all()


def test_names_and_types_are_those_of_the_design(run, exported):
    answer = run("serving_default", image=exported.images[:5])
    assert {name: value.dtype for name, value in answer.items()} == DTYPES
    assert answer["probabilities"].shape == (5, 3)
    limits = np.zeros(5, np.float32)
    at = run("predict_at", image=exported.images[:5], threshold=limits)
    assert {name: value.dtype for name, value in at.items()} == DTYPES
    features = run("features", image=exported.images[:5])
    assert {name: value.shape for name, value in features.items()} == {
        "features": (5, 6),
        "logits": (5, 4),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255.0, 3e38])
def test_one_bad_pixel_makes_an_image_invalid_and_no_other(run, exported, value):
    good = run("serving_default", image=exported.images[:6])
    bad = exported.images[:6].copy()
    bad[2, 3, 4, 0] = value
    answer = run("serving_default", image=bad)
    assert_refused(answer, [2])
    others = [0, 1, 3, 4, 5]
    for name in good:
        np.testing.assert_array_equal(answer[name][others], good[name][others], name)


def test_bytes_fed_as_float_are_invalid(run, exported):
    answer = run("serving_default", image=exported.pixels[:4].astype(np.float32))
    assert_refused(answer, slice(None))


def test_rounding_beyond_the_range_is_clipped(run, exported):
    images = exported.images[:3].copy()
    images[0, 0, 0], images[1, 0, 0] = 0, 1
    beyond = images.copy()
    beyond[0, 0, 0], beyond[1, 0, 0] = -0.0009, 1.0009
    answer = run("serving_default", image=beyond)
    assert answer["valid"].all()
    expected = run("serving_default", image=images)["ood_score"]
    np.testing.assert_array_equal(answer["ood_score"], expected)


def test_empty_batch_gives_an_empty_answer(run, exported):
    answer = run("serving_default", image=exported.images[:0])
    assert {name: len(value) for name, value in answer.items()} == dict.fromkeys(
        DTYPES, 0
    )
    none = np.zeros(0, np.float32)
    at = run("predict_at", image=exported.images[:0], threshold=none)
    assert all(len(value) == 0 for value in at.values())
    files = run("predict_bytes", image_bytes=np.array([], object).astype("S"))
    assert all(len(value) == 0 for value in files.values())
    assert run("features", image=exported.images[:0])["features"].shape == (0, 6)


@pytest.mark.parametrize(
    "shape", [(2, 11, 10, 1), (2, 12, 11, 1), (2, 12, 10, 3), (12, 10, 1), (2, 120)]
)
@pytest.mark.parametrize("signature", ["serving_default", "features"])
def test_wrong_shapes_are_errors(run, signature, shape):
    with pytest.raises((ValueError, TypeError, tf.errors.InvalidArgumentError)):
        run(signature, image=np.zeros(shape, np.float32))


def test_wrong_shapes_are_errors_in_the_graph_itself(exported):
    # A server does not check shapes as Python's Session does before it runs.
    graph = tf.Graph()
    with graph.as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.path))
        signature = loaded.signature_def["serving_default"]
        definition = graph.as_graph_def()
    name = signature.inputs["image"].name.split(":")[0]
    for node in definition.node:
        if node.name == name:
            node.attr["shape"].shape.Clear()
            node.attr["shape"].shape.unknown_rank = True
            node.attr.pop("_output_shapes", None)
    with tf.Graph().as_default() as blind, tf.compat.v1.Session() as session:
        tf.graph_util.import_graph_def(definition, name="")
        restore = [n.name for n in definition.node if n.name.startswith("save")]
        session.run(
            loaded.saver_def.restore_op_name,
            {
                loaded.saver_def.filename_tensor_name: str(
                    exported.path / "variables" / "variables"
                )
            },
        )
        assert restore and blind
        fetch = signature.outputs["class_id"].name
        feed = signature.inputs["image"].name
        right = session.run(fetch, {feed: np.zeros((2, 12, 10, 1), np.float32)})
        assert right.shape == (2,)
        for shape in [(2, 11, 10, 1), (2, 12, 13, 1)]:
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(fetch, {feed: np.zeros(shape, np.float32)})


def test_predict_at_takes_a_threshold_for_each_image(run, exported):
    scores = run("serving_default", image=exported.images[:4])["ood_score"]
    below = np.nextafter(scores, np.float32(-np.inf))
    limits = np.array([scores[0], below[1], np.nan, np.inf], np.float32)
    answer = run("predict_at", image=exported.images[:4], threshold=limits)
    np.testing.assert_array_equal(answer["accepted"], [True, False, False, True])
    np.testing.assert_array_equal(answer["class_id"] == -1, [False, True, True, False])
    assert answer["valid"].all()


def test_no_threshold_accepts_an_invalid_image(run, exported):
    bad = exported.images[:3].copy()
    bad[0, 0, 0], bad[1, 0, 0], bad[2] = np.nan, np.inf, 255
    for limit in (np.inf, LARGEST):
        limits = np.full(3, limit, np.float32)
        answer = run("predict_at", image=bad, threshold=limits)
        assert_refused(answer, slice(None))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_predict_at_wants_one_threshold_per_image(run, exported, count):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        run(
            "predict_at",
            image=exported.images[:4],
            threshold=np.zeros(count, np.float32),
        )


def test_features_are_those_of_the_live_model(run, exported):
    answer = run("features", image=exported.images)
    live = exported.detector.call(exported.images)
    for name in ("features", "logits"):
        np.testing.assert_allclose(answer[name], live[name], atol=1e-6)


def test_features_of_an_invalid_image_are_zero(run, exported):
    bad = exported.images[:2].copy()
    bad[1, 0, 0] = np.nan
    answer = run("features", image=bad)
    assert answer["features"][0].any() and not answer["features"][1].any()
    assert answer["logits"][0].any() and not answer["logits"][1].any()


def test_image_files_are_answered_as_their_pixels(run, exported):
    files = [tf.io.encode_png(pixels).numpy() for pixels in exported.pixels[:6]]
    files[2], files[4] = b"junk", files[4][:-20]
    answer = run("predict_bytes", image_bytes=np.array(files, object))
    assert_refused(answer, [2, 4])
    direct = run("serving_default", image=exported.images[:6])
    good = [0, 1, 3, 5]
    for name in direct:
        np.testing.assert_array_equal(answer[name][good], direct[name][good], name)


def test_many_files_are_answered_in_slices_and_in_order(run, exported):
    files = [tf.io.encode_png(pixels).numpy() for pixels in exported.pixels]
    order = np.random.default_rng(0).integers(0, len(files), 700)
    chosen = np.array([files[row] for row in order], object)
    broken = order % 7 == 0
    chosen[broken] = b"junk"
    answer = run("predict_bytes", image_bytes=chosen)
    direct = run("serving_default", image=exported.images)
    assert_refused(answer, np.flatnonzero(broken))
    for name in ("class_id", "label", "accepted", "valid"):
        np.testing.assert_array_equal(
            answer[name][~broken], direct[name][order][~broken], name
        )
    np.testing.assert_allclose(
        answer["ood_score"][~broken], direct["ood_score"][order][~broken], rtol=1e-5
    )


def test_a_request_of_many_files_is_answered_a_few_at_a_time():
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def in_slices(contents):
        return serving._in_slices(
            lambda part: {
                "rows": tf.fill(tf.shape(part), tf.size(part)),
                "same": tf.identity(part),
            },
            contents,
            4,
        )

    for count, rows in ((0, []), (4, [4] * 4), (10, [4] * 8 + [2] * 2)):
        contents = [str(row).encode() for row in range(count)]
        answer = in_slices(tf.constant(contents, tf.string))
        np.testing.assert_array_equal(answer["rows"], rows)
        assert answer["same"].numpy().tolist() == contents


def test_the_network_sees_few_of_many_broken_files():
    good = tf.io.encode_png(np.zeros((12, 10, 1), np.uint8)).numpy()

    def seen(files):
        answer = serving._answer_files(
            lambda images: {
                "rows": tf.repeat(tf.shape(images)[0], tf.shape(images)[0]),
                "valid": ~tf.reduce_any(tf.math.is_nan(images), axis=(1, 2, 3)),
            },
            *image_bytes.read(tf.constant(files, tf.string), (12, 10, 1), 255),
        )
        valid = [content == good for content in files]
        np.testing.assert_array_equal(answer["valid"], valid)
        return set(answer["rows"].numpy().tolist())

    assert seen([]) == set()
    assert seen([b""] * 100) == {1}
    assert seen([b""] * 50 + [good, good] + [b""] * 50) == {3}
    # In their places, so that a broken file changes no rounding of the others.
    assert seen([good, b"", good, b""]) == {4}
    assert seen([good] * 3) == {3}
