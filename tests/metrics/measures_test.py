"""One record per metric: what follows from it, and metrics from outside."""

import functools
import math
import types

import keras
import numpy as np
import pytest
from keras import ops

from ood_keras import evaluation, losses, metrics
from ood_keras.metrics import bounds, measures
from ood_keras.metrics import curve as formulas

KNOWN = np.float32([0.1, 0.2, 0.2, 0.4, 0.9])
UNKNOWN = np.float32([0.3, 0.4, 0.8, 1.5])


@pytest.fixture
def registry(monkeypatch):
    """What a test registers is forgotten after it."""
    from ood_keras.metrics import ranking_metrics

    monkeypatch.setattr(measures, "_ALL", dict(measures._ALL))
    monkeypatch.setattr(ranking_metrics, "_CLASSES", dict(ranking_metrics._CLASSES))
    objects = keras.saving.get_custom_objects()
    before = dict(objects)
    yield
    objects.clear()
    objects.update(before)


def fpr99(**fields):
    return metrics.Measure(
        **{
            "name": "fpr99",
            "title": "FPR99",
            "description": "unknown images accepted where 99 % of the known ones are",
            "higher_is_better": False,
            "useless": 1.0,
            "formula": functools.partial(formulas.fpr_known_positive, tpr=0.99),
            **fields,
        }
    )


def test_the_metrics_of_reports_are_these():
    """They are the keys of `metrics.json`, which users read."""
    assert list(measures.BUILT_IN) == [
        "auroc",
        "aupr_in",
        "aupr_out",
        "detection_error",
        "fpr95_known_positive",
        "fpr95_unknown_positive",
    ]


@pytest.mark.parametrize("name", measures.BUILT_IN)
def test_direction_limits_and_useless_value_are_those_of_the_metric(name):
    measure = metrics.get(name)
    right, wrong = ([0.0, 1.0], [2.0, 3.0]), ([2.0, 3.0], [0.0, 1.0])
    best, worst = (metrics.evaluate_scores(*pair)[name] for pair in (right, wrong))
    assert measure.best == best
    assert (best > worst) == measure.higher_is_better
    constant = metrics.evaluate_scores(np.zeros(6), np.zeros(6))[name]
    assert measure.useless in (constant, 0.0)
    low, high = measure.limits
    assert low <= min(worst, best) and max(worst, best) <= high


@pytest.mark.parametrize("name", measures.BUILT_IN)
def test_parts_of_a_curve_make_the_whole(name):
    measure = metrics.get(name)
    ranked = metrics.RankedScores(KNOWN, UNKNOWN)
    parts = [ranked.curve(start, start + 2) for start in range(0, 8, 2)]
    combined = measure.combine([measure.formula(np, part) for part in parts])
    assert combined == pytest.approx(measure.formula(np, ranked.curve()))


@pytest.mark.parametrize("name", measures.BUILT_IN)
def test_the_keras_metric_follows_from_the_record(name):
    measure = metrics.get(name)
    cls = metrics.keras_metric(name)
    assert getattr(metrics, measure.keras_name) is cls
    assert cls is metrics.keras_metric(name)
    assert cls.__name__ == measure.keras_name
    assert measure.description in cls.__doc__
    assert keras.saving.get_registered_name(cls) == f"ood_keras>{measure.keras_name}"


@pytest.mark.parametrize(
    ("class_name", "name"),
    [
        ("AUROC", "auroc"),
        ("AUPRIn", "aupr_in"),
        ("AUPROut", "aupr_out"),
        ("DetectionError", "detection_error"),
        ("FPR95KnownPositive", "fpr95_known_positive"),
        ("FPR95UnknownPositive", "fpr95_unknown_positive"),
    ],
)
def test_what_earlier_versions_saved_still_loads(class_name, name):
    """As version 0.1 wrote it into `.keras` files."""
    metric = keras.saving.deserialize_keras_object(
        {
            "module": "ood_keras.metrics.ranking_metrics",
            "class_name": class_name,
            "config": {
                "name": name,
                "dtype": "float32",
                "num_classes": 10,
                "score": "energy",
                "capacity": 99,
            },
            "registered_name": f"ood_keras>{class_name}",
        }
    )
    assert type(metric) is getattr(metrics, class_name)
    assert (metric.name, metric.capacity) == (name, 99)


# The direction, in the callbacks of Keras.


def fit(compiled, callbacks):
    """A real epoch with these metrics and callbacks."""
    rng = np.random.default_rng(0)
    data = rng.random((12, 4)), np.arange(12) % 4 - 1
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
    loss = losses.OpenSetLoss(num_classes=3)
    model.compile("sgd", loss, metrics=compiled, jit_compile=False)
    model.fit(*data, validation_data=data, callbacks=callbacks, verbose=0)


@pytest.fixture(scope="module")
def decided(tmp_path_factory):
    """`{(monitor, callback): comparison}`, of every metric and of it renamed."""
    path = tmp_path_factory.mktemp("best") / "best.keras"
    classes = {name: metrics.keras_metric(name) for name in measures.BUILT_IN}
    classes["known_accuracy"] = metrics.KnownAccuracy
    compiled, callbacks = [], []
    for name, cls in classes.items():
        for shown in (name, f"my_{name}"):
            compiled.append(cls(num_classes=3, name=shown))
            for monitor in (shown, f"val_{shown}"):
                callbacks += [
                    keras.callbacks.EarlyStopping(monitor),
                    keras.callbacks.ReduceLROnPlateau(monitor),
                    keras.callbacks.ModelCheckpoint(path, monitor, save_best_only=True),
                ]
    fit(compiled, callbacks)
    return {(each.monitor, type(each)): each.monitor_op for each in callbacks}


@pytest.mark.parametrize("name", [*measures.BUILT_IN, "known_accuracy"])
def test_callbacks_know_the_direction(name, decided):
    higher = name == "known_accuracy" or metrics.get(name).higher_is_better
    found = [op for (monitor, _), op in decided.items() if monitor.endswith(name)]
    assert len(found) == 12
    assert set(found) == {ops.greater if higher else ops.less}


@pytest.mark.parametrize("cls", [metrics.Ranking, metrics.StreamingRanking])
def test_several_directions_under_one_name_are_asked_for(cls):
    """Keras has no place for them, and must not guess."""
    with pytest.raises(ValueError, match="mode='max'"):
        fit([cls(num_classes=3)], [keras.callbacks.EarlyStopping("val_auroc")])
    with pytest.raises(AttributeError):
        _ = cls(num_classes=3)._direction


def test_early_stopping_keeps_the_epoch_with_the_highest_auroc():
    """The network gets worse: at a wrong direction the last epoch would be best."""
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 3 - 1
    logits = rng.normal(size=(40, 3)).astype("float32")
    logits[:, 2] += 3 * (labels < 0)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(inputs))
    model.set_weights([np.eye(3)])
    model.compile(
        keras.optimizers.SGD(0.05),
        # Pulls the unknown logit down where images are unknown.
        loss=lambda y, x: x[:, 2] * ops.cast(ops.reshape(y, (-1,)) < 0, "float32"),
        metrics=[metrics.AUROC(num_classes=2)],
        jit_compile=False,
    )
    stop = keras.callbacks.EarlyStopping(
        "val_auroc", patience=3, restore_best_weights=True
    )
    history = model.fit(
        logits,
        labels,
        validation_data=(logits, labels),
        epochs=20,
        callbacks=[stop],
        verbose=0,
    ).history["val_auroc"]
    assert len(history) < 20
    assert stop.best_epoch == int(np.argmax(history))
    assert float(stop.best) == max(history) > history[-1]


# Metrics from outside.


def test_one_record_is_all_that_a_metric_takes(registry):
    measure = metrics.register(fpr99())
    assert metrics.get("fpr99") is measure
    assert "fpr99" in metrics.names()
    # 99 % of 5 known images are all of them, at 0.9.
    row = metrics.evaluate_scores(KNOWN, UNKNOWN, further=["fpr99"])
    assert row["fpr99"] == 0.75
    assert "fpr99" not in metrics.evaluate_scores(KNOWN, UNKNOWN)
    assert metrics.RankedScores(KNOWN, UNKNOWN).measure("fpr99") == 0.75
    metric = metrics.keras_metric("fpr99")(num_classes=2, score="max_logit")
    metric.update_state(
        [0] * 5 + [-1] * 4, -np.repeat([*KNOWN, *UNKNOWN], 2).reshape(9, 2)
    )
    assert float(metric.result()) == 0.75
    assert metric._direction == "down"
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(again) is type(metric)
    compared = metrics.compare_scores(
        (KNOWN, UNKNOWN), (KNOWN, UNKNOWN), metric="fpr99", num_resamples=9
    )
    assert compared.first == 0.75
    found = metrics.check_consistency({"fpr99": 1.5})
    assert [each.rule for each in found] == ["0 <= fpr99 <= 1"]


def test_a_registered_metric_stands_in_the_results_where_it_is_named(registry):
    metrics.register(fpr99(column="99"))
    row = metrics.evaluate_scores(KNOWN, UNKNOWN, further=["fpr99"]) | {"seen": False}
    results = {
        "known": {"source": "a", "accuracy": 0.5},
        "detectors": {"msp": {"unknown": {"b": row}}},
        "selected_detector": "msp",
    }
    header, _, line = evaluation.format_table(results).splitlines()[3:6]
    assert header.split()[-1] == "99"
    assert line.split()[-1] == "75.00"
    # Results of before it was known, or of another module, have columns in common.
    results["detectors"]["msp"]["unknown"]["c"] = {
        name: row[name] for name in row if name not in ("fpr99", "aupr_in")
    }
    header = evaluation.format_table(results).splitlines()[3]
    assert "99" not in header.split() and "AUPR in" not in header
    assert "AUROC" in header


def test_a_formula_is_registered_by_a_decorator(registry):
    @metrics.register(
        title="At the best known",
        description="unknown images accepted at the lowest score",
        higher_is_better=False,
        useless=1.0,
    )
    def at_the_lowest(xp, curve):
        return xp.divide(curve.unknown_accepted[0], curve.num_unknown)

    assert isinstance(at_the_lowest, metrics.Measure)
    assert metrics.get("at_the_lowest") is at_the_lowest
    value = metrics.evaluate_scores([0.0, 1.0], [0.0, 2.0], further=["at_the_lowest"])
    assert value["at_the_lowest"] == 0.5
    # Computed on the whole curve, of which there are many blocks.
    known = np.arange(200_000, dtype=np.float32)
    value = metrics.evaluate_scores(known, known + 0.5, further=["at_the_lowest"])
    assert value["at_the_lowest"] == 0.0


def test_a_keras_metric_is_fed_scores(registry):
    @metrics.register
    class MeanGap(keras.metrics.Metric):
        """Mean score of unknown images less that of known ones."""

        _direction = "up"

        def __init__(self, name="mean_gap", dtype=None):
            super().__init__(name=name, dtype=dtype)
            self.gap = self.add_weight(shape=(), initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.gap.assign(
                ops.sum(y_pred * y_true) / ops.sum(y_true)
                - ops.sum(y_pred * (1 - y_true)) / ops.sum(1 - y_true)
            )

        def result(self):
            return self.gap

    measure = metrics.get("mean_gap")
    assert measure.higher_is_better
    assert measure.description.startswith("Mean score of unknown")
    row = metrics.evaluate_scores(KNOWN, UNKNOWN, further=["mean_gap"])
    gap = np.mean(UNKNOWN, dtype=np.float64) - np.mean(KNOWN, dtype=np.float64)
    assert row["mean_gap"] == pytest.approx(gap, rel=1e-6)
    # Each call makes a new one: nothing is left from the images before.
    again = metrics.evaluate_scores(UNKNOWN, KNOWN, further=["mean_gap"])
    assert again["mean_gap"] == pytest.approx(-gap, rel=1e-6)
    assert not metrics.check_consistency({"mean_gap": -3.0})
    with pytest.raises(ValueError, match=r"mean_gap.*order of the scores"):
        metrics.compare_scores(
            (KNOWN, UNKNOWN), (KNOWN, UNKNOWN), metric="mean_gap", num_resamples=3
        )
    with pytest.raises(ValueError, match="'mean_gap' has no formula"):
        metrics.keras_metric("mean_gap")
    assert isinstance(
        keras.metrics.deserialize(keras.metrics.serialize(MeanGap())), MeanGap
    )


def test_keras_own_metrics_can_be_registered(registry):
    @metrics.register(title="AUC of Keras", name="keras_auc", limits=(0, 1))
    class OfKeras(keras.metrics.AUC):
        def __init__(self):
            super().__init__(num_thresholds=2000)

    row = metrics.evaluate_scores(KNOWN / 2, UNKNOWN / 2, further=["keras_auc"])
    assert row["keras_auc"] == pytest.approx(row["auroc"], abs=2e-3)
    assert metrics.get("keras_auc").title == "AUC of Keras"


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (keras.metrics.AUC, ()),
        (keras.metrics.PrecisionAtRecall, (0.5,)),
        (keras.metrics.RecallAtPrecision, (0.5,)),
        (keras.metrics.SensitivityAtSpecificity, (0.5,)),
        (keras.metrics.SpecificityAtSensitivity, (0.5,)),
    ],
)
@pytest.mark.parametrize("shift", [-5, 5])
def test_keras_thresholds_need_scores_between_0_and_1(registry, cls, arguments, shift):
    class OfKeras(cls):
        def __init__(self):
            super().__init__(*arguments)

    metrics.register(higher_is_better=True, name="of_keras")(OfKeras)
    with pytest.raises(ValueError, match=r"OfKeras counts at .*scores from .*'auroc'"):
        metrics.evaluate_scores(KNOWN + shift, UNKNOWN + shift, further=["of_keras"])
    within = metrics.evaluate_scores(KNOWN / 2, UNKNOWN / 2, further=["of_keras"])
    assert 0 < within["of_keras"] <= 1


def test_keras_metrics_that_take_scores_of_any_size(registry):
    @metrics.register(name="of_logits")
    class OfLogits(keras.metrics.AUC):
        def __init__(self):
            super().__init__(num_thresholds=2000, from_logits=True)

    @metrics.register(name="of_own_scale")
    class OfOwnScale(keras.metrics.AUC):
        def __init__(self):
            super().__init__(num_thresholds=2000)

        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(y_true, keras.ops.sigmoid(y_pred), sample_weight)

    @metrics.register(name="recall_at_half")
    class RecallAtHalf(keras.metrics.Recall):
        """Unknown images above one threshold, which is where one says."""

    row = metrics.evaluate_scores(
        KNOWN - 1, UNKNOWN - 1, further=["of_logits", "of_own_scale", "recall_at_half"]
    )
    assert row["of_logits"] == pytest.approx(row["auroc"], abs=2e-3)
    assert row["of_own_scale"] == pytest.approx(row["auroc"], abs=2e-3)
    assert row["recall_at_half"] == np.mean(UNKNOWN - 1 > 0.5)


def test_the_same_cell_may_run_twice_and_another_metric_may_not(registry):
    metrics.register(fpr99())
    metrics.register(fpr99(title="FPR at 99 %"))
    assert metrics.get("fpr99").title == "FPR at 99 %"
    with pytest.raises(ValueError, match=r"'fpr99' is .*fpr_known_positive already"):
        metrics.register(fpr99(formula=lambda xp, curve: curve.num_known))
    with pytest.raises(ValueError, match=r"'auroc' is .*curve\.auroc already"):
        metrics.register(fpr99(name="auroc"))
    with pytest.raises(ValueError, match=r"'auroc' is .*curve\.auroc already"):
        metrics.register(fpr99(name="auroc", formula=formulas.auroc))
    assert metrics.get("auroc").title == "AUROC"


class NeedsArguments(keras.metrics.Mean):
    def __init__(self, power):
        super().__init__(name="needs_arguments")


class WithoutDirection(keras.metrics.Mean):
    def __init__(self):
        super().__init__(name="without_direction")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: metrics.get("fpr"), ValueError, "unknown metric 'fpr'; .*auroc"),
        (
            lambda: metrics.evaluate_scores(KNOWN, UNKNOWN, further="auroc"),
            ValueError,
            "list of names",
        ),
        (lambda: fpr99(name="fpr 99"), ValueError, "identifier.*'fpr 99'"),
        (lambda: fpr99(name="seen"), ValueError, "none of seen"),
        (lambda: fpr99(formula=None), ValueError, "either `formula`"),
        (lambda: fpr99(of_scores=max), ValueError, "either `formula`"),
        (lambda: metrics.register(3), TypeError, "Measure, a subclass"),
        (lambda: metrics.register(fpr99(), title="a"), TypeError, "has its fields"),
        (
            lambda: metrics.register(title="a")(types.FunctionType),
            TypeError,
            "Measure, a subclass",
        ),
        (
            lambda: metrics.register(title="a")(lambda xp, curve: 0),
            TypeError,
            "title, description, higher_is_better and useless",
        ),
        (lambda: metrics.register(NeedsArguments), TypeError, "without arguments"),
        (
            lambda: metrics.register(WithoutDirection),
            ValueError,
            "higher_is_better=True",
        ),
        (lambda: metrics.register(metrics.Ranking), TypeError, "labels and logits"),
    ],
)
def test_what_cannot_be_registered_is_explained(make, error, message, registry):
    before = metrics.names()
    with pytest.raises(error, match=message):
        make()
    assert metrics.names() == before


def test_bounds_of_a_sketch_hold_for_every_order_within_a_bin():
    """One bin holds all scores: of every order, each metric lies in its bounds."""
    import itertools

    known, unknown = np.array([3]), np.array([2])
    curve = formulas.Curve.of(np, known, unknown)
    found = {name: [] for name in measures.BUILT_IN}
    for order in set(itertools.permutations([0] * 3 + [1] * 2)):
        scores = np.arange(5.0)
        is_unknown = np.array(order, bool)
        row = metrics.evaluate_scores(scores[~is_unknown], scores[is_unknown])
        for name, values in found.items():
            values.append(row[name])
    for name, values in found.items():
        low, high = metrics.get(name).bounds(curve)
        assert low <= min(values) + 1e-12 and max(values) - 1e-12 <= high, name
    assert bounds.auroc(curve) == (0.0, 1.0)
    assert math.isclose(bounds.detection_error(curve)[0], 0.0)
