"""The Keras metrics against the exact functions."""

import keras
import numpy as np
import pytest
from keras import ops
from references import metrics_reference

from ood_keras import metrics
from ood_keras.metrics import measures, ranking_metrics

EXACT = {metrics.keras_metric(name): name for name in measures.BUILT_IN}
# TensorFlow's arithmetic takes subnormal numbers for 0, so they tie there.
CASES = {
    name: pair
    for name, pair in metrics_reference.score_cases().items()
    if pair[0].dtype == pair[1].dtype == np.float32 and name != "subnormals"
}


def logits_of(scores, num_classes=2):
    """Logits `(n, num_classes)` whose "max_logit" score is `scores`."""
    return np.repeat(-np.asarray(scores, np.float32)[:, None], num_classes, axis=1)


def batches(known, unknown, size=7, seed=0):
    """The scores as shuffled batches `(y_true, logits)`."""
    scores = np.concatenate([known, unknown])
    labels = np.repeat([0, -1], [len(known), len(unknown)])
    order = np.random.default_rng(seed).permutation(len(scores))
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        yield labels[batch], logits_of(scores[batch])


@pytest.mark.parametrize("metric_class", EXACT)
@pytest.mark.parametrize("case", CASES)
def test_batch_by_batch_equals_the_exact_function(metric_class, case):
    known, unknown = CASES[case]
    metric = metric_class(num_classes=2, score="max_logit", capacity=128)
    for y_true, y_pred in batches(known, unknown):
        metric.update_state(y_true, y_pred)
    expected = metrics.evaluate_scores(known, unknown)[EXACT[metric_class]]
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("metric_class", EXACT)
def test_full_capacity_is_exact_to_1e_6(metric_class):
    rng = np.random.default_rng(1)
    known = rng.normal(size=20_000).astype(np.float32)
    unknown = np.round(rng.normal(1, 1, 12_768), 2).astype(np.float32)
    metric = metric_class(num_classes=2, score="max_logit")
    for y_true, y_pred in batches(known, unknown, size=8192):
        metric.update_state(y_true, y_pred)
    expected = metrics.evaluate_scores(known, unknown)[EXACT[metric_class]]
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)


def test_largest_capacity_does_not_overflow():
    known = np.zeros(32_768, np.float32)
    unknown = np.ones(32_767, np.float32)
    for metric_class in (metrics.AUROC, metrics.DetectionError):
        metric = metric_class(num_classes=2, score="max_logit", capacity=65_535)
        for y_true, y_pred in batches(known, unknown, size=40_000):
            metric.update_state(y_true, y_pred)
        assert float(metric.result()) == {metrics.AUROC: 1.0}.get(metric_class, 0.0)


@pytest.mark.parametrize("metric_class", EXACT)
@pytest.mark.parametrize("batch_size", [7, 64, 200])
def test_beyond_capacity_the_newest_images_count(metric_class, batch_size):
    rng = np.random.default_rng(2)
    scores = rng.normal(size=200).astype(np.float32)
    labels = rng.integers(-1, 2, 200)
    metric = metric_class(num_classes=2, score="max_logit", capacity=64)
    for start in range(0, 200, batch_size):
        batch = slice(start, start + batch_size)
        metric.update_state(labels[batch], logits_of(scores[batch]))
    newest, kinds = scores[-64:], labels[-64:]
    expected = metrics.evaluate_scores(newest[kinds >= 0], newest[kinds < 0])
    result = float(metric.result())
    assert result == pytest.approx(expected[EXACT[metric_class]], abs=1e-6)


@pytest.mark.parametrize("metric_class", EXACT)
def test_with_an_empty_side_it_looks_useless_and_never_nan(metric_class):
    expected = metrics.get(EXACT[metric_class]).useless
    metric = metric_class(num_classes=2, score="max_logit", capacity=16)
    assert float(metric.result()) == expected
    metric.update_state([0, 1], logits_of([0.0, 1.0]))
    assert float(metric.result()) == expected
    metric.reset_state()
    metric.update_state([-1], logits_of([0.0]))
    assert float(metric.result()) == expected


@pytest.mark.parametrize("metric_class", EXACT)
def test_a_nan_score_shows(metric_class):
    metric = metric_class(num_classes=2, score="max_logit", capacity=16)
    metric.update_state([0, -1, 0], logits_of([0.0, 1.0, np.nan]))
    assert np.isnan(float(metric.result()))


@pytest.mark.parametrize("metric_class", EXACT)
def test_config_round_trip(metric_class):
    metric = metric_class(num_classes=3, score="energy", capacity=99)
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(copy) is metric_class
    assert copy.get_config() == metric.get_config()
    assert metric.name == EXACT[metric_class]


def test_all_metrics_for_one_sort():
    known, unknown = CASES["many_ties"]
    metric = metrics.Ranking(2, score="max_logit", capacity=128, prefix="logit_")
    for y_true, y_pred in batches(known, unknown):
        metric.update_state(y_true, y_pred)
    expected = metrics.evaluate_scores(known, unknown)
    assert {name: float(value) for name, value in metric.result().items()} == (
        pytest.approx({f"logit_{name}": value for name, value in expected.items()})
    )
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert copy.get_config() == metric.get_config()


def test_reads_the_score_from_logits_of_either_width():
    logits = np.random.default_rng(3).normal(size=(40, 4)).astype(np.float32)
    labels = np.repeat([0, -1], 20)
    metric = metrics.AUROC(num_classes=3)
    metric.update_state(labels[:, None], logits)
    score = logits[:, 3] - np.log(np.exp(logits[:, :3]).sum(axis=1))
    assert float(metric.result()) == pytest.approx(
        metrics.auroc(score[:20], score[20:]), abs=1e-6
    )
    without = metrics.AUROC(num_classes=4, score="max_logit")
    without.update_state(labels, logits)
    score = -logits.max(axis=1)
    assert float(without.result()) == pytest.approx(
        metrics.auroc(score[:20], score[20:]), abs=1e-6
    )


def test_bad_arguments_are_explained():
    with pytest.raises(ValueError, match="known classes"):
        metrics.AUROC(num_classes=0)
    with pytest.raises(ValueError, match="unknown score 'softmax'; expected one of"):
        metrics.AUROC(num_classes=2, score="softmax")
    for capacity in (1, 0.5, 65_536, None, "9"):
        with pytest.raises(ValueError, match="`capacity` counts the newest images"):
            metrics.AUROC(num_classes=2, capacity=capacity)
    metric = metrics.AUROC(num_classes=2, capacity=8)
    with pytest.raises(ValueError, match="expected logits of shape"):
        metric.update_state([0], [[1.0, 2.0, 3.0, 4.0]])
    with pytest.raises(ValueError, match="turn one-hot labels into integers"):
        metric.update_state([[1, 0]], [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="takes no sample weights"):
        metric.update_state([0], [[1.0, 2.0, 3.0]], sample_weight=[1.0])
    for make in (metrics.AUROC, metrics.StreamingRanking, metrics.KnownAccuracy):
        each = make(num_classes=2)
        with pytest.raises(ValueError, match="2 labels and outputs of 1 images"):
            each.update_state([0, 1], [[1.0, 2.0, 3.0]])


IN_FIT = {
    "all": [
        metrics.KnownAccuracy,
        *EXACT,
        lambda n: metrics.Ranking(n, prefix="all_"),
        lambda n: metrics.StreamingRanking(n, prefix="streaming_"),
    ],
    "compiled": [metrics.KnownAccuracy, lambda n: metrics.Ranking(n, capacity=256)],
}


@pytest.mark.parametrize("kind", IN_FIT)
def test_in_fit_and_evaluate(kind):
    """The network hands its input on as logits."""
    rng = np.random.default_rng(4)
    logits = rng.normal(size=(150, 4)).astype(np.float32)
    labels = rng.integers(-1, 3, 150)
    score = logits[:, 3] - np.log(np.exp(logits[:, :3]).sum(axis=1))
    known, unknown = score[labels >= 0], score[labels < 0]
    right = logits[labels >= 0, :3].argmax(axis=1) == labels[labels >= 0]
    expected = {"known_accuracy": right.mean()}
    expected |= metrics.evaluate_scores(known, unknown)
    if kind == "all":
        sketch = metrics.ScoreSketch().update(known, unknown).evaluate()
        expected |= {f"all_{name}": expected[name] for name in EXACT.values()}
        expected |= {f"streaming_{name}": value for name, value in sketch.items()}

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(4, use_bias=False)(inputs))
    model.set_weights([np.eye(4)])
    model.compile(
        optimizer=keras.optimizers.SGD(0.0),
        loss=lambda y_true, y_pred: ops.sum(y_pred, axis=-1),
        metrics=[metric(3) for metric in IN_FIT[kind]],
        jit_compile=kind == "compiled",
    )
    # The last batch is a smaller one, except where every shape is compiled anew.
    batch_size = 75 if kind == "compiled" else 64
    data = {"x": logits, "y": labels, "batch_size": batch_size, "verbose": 0}
    history = model.fit(**data, validation_data=(logits, labels)).history
    evaluated = model.evaluate(**data, return_dict=True)
    for name, value in expected.items():
        assert history[name][0] == pytest.approx(value, abs=1e-6)
        assert history[f"val_{name}"][0] == pytest.approx(value, abs=1e-6)
        assert evaluated[name] == pytest.approx(value, abs=1e-6)


def test_stateless_use():
    metric = metrics.AUROC(num_classes=2, score="max_logit", capacity=16)
    variables = metric.stateless_reset_state()
    variables = metric.stateless_update_state(
        variables, np.array([0, -1]), logits_of([0.0, 1.0])
    )
    assert float(metric.stateless_result(variables)) == 1.0


class TestKnownAccuracy:
    def test_leaves_out_unknown_images_and_the_unknown_logit(self):
        metric = metrics.KnownAccuracy(num_classes=2)
        logits = [[2.0, 1.0, 9.0], [2.0, 1.0, 0.0], [2.0, 1.0, 5.0], [0.0, 1.0, 0.0]]
        metric.update_state([0, 1, -1, 1], logits)
        assert float(metric.result()) == pytest.approx(2 / 3)

    def test_without_an_unknown_logit_and_in_batches(self):
        metric = metrics.KnownAccuracy(num_classes=2)
        metric.update_state([[0], [-1]], [[2.0, 1.0], [2.0, 1.0]])
        metric.update_state([[1], [1]], [[2.0, 1.0], [1.0, 2.0]])
        assert float(metric.result()) == pytest.approx(2 / 3)

    def test_is_zero_before_any_known_image(self):
        metric = metrics.KnownAccuracy(num_classes=2)
        assert float(metric.result()) == 0
        metric.update_state([-1], [[2.0, 1.0]])
        assert float(metric.result()) == 0

    def test_honours_sample_weights(self):
        metric = metrics.KnownAccuracy(num_classes=2)
        logits = [[2.0, 1.0]] * 3
        metric.update_state([0, 1, -1], logits, sample_weight=[3.0, 1.0, 9.0])
        assert float(metric.result()) == pytest.approx(3 / 4)

    def test_config_round_trip(self):
        metric = metrics.KnownAccuracy(num_classes=3)
        copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
        assert copy.get_config() == metric.get_config()

    def test_bad_logits_are_explained(self):
        with pytest.raises(ValueError, match="expected logits of shape"):
            metrics.KnownAccuracy(2).update_state([0], [[1.0]])


def test_nan_logits_are_never_right():
    metric = metrics.KnownAccuracy(num_classes=2)
    nan = float("nan")
    logits = [[nan, nan, 0.0], [0.0, nan, 0.0], [2.0, 1.0, nan], [2.0, 1.0, 9.0]]
    metric.update_state([0, 1, 0, 0], logits)
    assert float(metric.result()) == 0.5


def test_images_of_several_replicas_are_not_ranked(monkeypatch):
    """Each replica would rank its own; `training/replicas_test.py` trains on two."""
    metric = metrics.AUROC(num_classes=3)
    monkeypatch.setattr(ranking_metrics, "count_replicas", lambda: 2)
    for make_error in (
        lambda: metrics.Ranking(num_classes=3),
        lambda: metric.update_state([0, -1], np.eye(4)[[0, 3]]),
    ):
        with pytest.raises(ValueError, match=r"has 2\. Use .*StreamingRanking"):
            make_error()
