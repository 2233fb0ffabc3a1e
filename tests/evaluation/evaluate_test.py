"""Scores, metrics and selection against what the parts give by themselves."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ood_keras import detectors, evaluation, metrics
from ood_keras.evaluation import scoring
from ood_keras.evaluation.selection import best
from ood_keras.metrics import measures
from ood_keras.metrics.measures import BUILT_IN


def test_known_accuracy_counts_the_larger_known_logit(toolbox):
    model = toolbox.make_model()
    # Right; right though the unknown logit is largest; wrong; wrong.
    images = toolbox.make_images([[0.9, 0, 0], [0, 0.5, 1], [1, 0.2, 0], [0.3, 0.2, 0]])
    report = evaluation.evaluate(
        toolbox.fit_all(model, ["msp"]),
        known=("four", (images, np.array([0, 1, 1, 1]))),
        unknown={"noise": toolbox.make_unknown(5, seed=0)},
    )
    assert report.metrics["known"] == {"source": "four", "accuracy": 0.5}
    assert report.scores["predictions/known"].tolist() == [0, 1, 0, 0]
    assert report.scores["labels/known"].tolist() == [0, 1, 1, 1]
    exp = np.exp(4 * images.reshape(4, 3))
    confidence = exp[:, :2].max(axis=1) / exp.sum(axis=1)
    np.testing.assert_allclose(report.scores["confidence/known"], confidence, rtol=1e-5)


def test_metrics_have_the_documented_form(case):
    metrics = case.report.metrics
    assert set(metrics) == {"known", "detectors", "selected_detector", "verdict"}
    assert set(metrics["known"]) == {"source", "accuracy"}
    assert set(metrics["detectors"]) == set(case.fitted)
    for detector in metrics["detectors"].values():
        assert set(detector) == {"unknown"}
        assert list(detector["unknown"]) == list(case.unknown)
        for row in detector["unknown"].values():
            assert set(row) == {"seen", "auroc_interval", *BUILT_IN}
            assert all(isinstance(row[name], float) for name in BUILT_IN)
            low, high = row["auroc_interval"]
            assert 0 <= low < row["auroc"] < high <= 1


def test_only_exposed_sources_are_seen(case):
    for detector in case.report.metrics["detectors"].values():
        assert {name: row["seen"] for name, row in detector["unknown"].items()} == {
            "emnist/letters": True,
            "<b>noise</b> & co": False,
        }


def test_shared_pass_gives_each_detector_its_own_scores(case):
    scores = case.report.scores
    for name, detector in case.fitted.items():
        for key, images in {
            "known": case.known[0],
            "unknown/emnist/letters": case.unknown["emnist/letters"],
            "validation/known": case.validation[0],
            "validation/unknown": case.validation[1],
        }.items():
            stored = scores[f"{key}/{name}"]
            assert stored.dtype == np.float32
            np.testing.assert_allclose(stored, detector.score(images), rtol=1e-6)


def test_metrics_are_those_of_the_scores(case):
    scores = case.report.scores
    for name in case.fitted:
        for source in case.unknown:
            row = case.report.metrics["detectors"][name]["unknown"][source]
            known, unknown = scores[f"known/{name}"], scores[f"unknown/{source}/{name}"]
            pooled = np.concatenate([known, unknown])
            is_unknown = np.arange(len(pooled)) >= len(known)
            assert row["auroc"] == pytest.approx(roc_auc_score(is_unknown, pooled))
            assert row["aupr_out"] == pytest.approx(
                average_precision_score(is_unknown, pooled)
            )
            assert row["aupr_in"] == pytest.approx(
                average_precision_score(~is_unknown, -pooled)
            )


def test_the_interval_is_that_of_the_scores(case):
    scores = case.report.scores
    for name in case.fitted:
        for source in case.unknown:
            row = case.report.metrics["detectors"][name]["unknown"][source]
            known, unknown = scores[f"known/{name}"], scores[f"unknown/{source}/{name}"]
            value, low, high = metrics.auroc_interval(known, unknown)
            assert row["auroc"] == value
            assert row["auroc_interval"] == [low, high]


def test_one_image_has_no_interval(toolbox):
    report = evaluation.evaluate(
        toolbox.fit_all(toolbox.make_model(), ["msp"]),
        known=("four", toolbox.make_known(4, seed=0)),
        unknown={
            "one": toolbox.make_unknown(1, seed=0),
            "two": toolbox.make_unknown(2, seed=0),
        },
    )
    rows = report.metrics["detectors"]["msp"]["unknown"]
    assert rows["one"]["auroc_interval"] is None
    assert len(rows["two"]["auroc_interval"]) == 2
    lines = str(report).splitlines()
    assert "(95 % interval)" in lines[3]
    assert lines[5].split()[:3:2] == ["one", "unknown"]


def test_a_metric_from_outside_is_reported_where_it_is_named(
    toolbox, monkeypatch, tmp_path
):
    monkeypatch.setattr(measures, "_ALL", dict(measures._ALL))

    @metrics.register(
        title="Both on one side",
        description="unknown images below the lowest known one",
        higher_is_better=False,
        useless=1.0,
    )
    def below_all(xp, curve):
        first = xp.where(curve.known_accepted > 0, curve.unknown_accepted, 10**6)
        return xp.divide(xp.min(first), curve.num_unknown)

    data = {
        "known": ("four", toolbox.make_known(40, seed=0)),
        "unknown": {"noise": toolbox.make_unknown(30, seed=0)},
        "validation_known": toolbox.make_known(40, seed=2)[0],
        "validation_unknown": toolbox.make_unknown(30, seed=3),
    }
    fitted = toolbox.fit_all(toolbox.make_model(), ["msp", "energy"])
    plain = evaluation.evaluate(fitted, **data)
    report = evaluation.evaluate(fitted, **data, further_metrics=["below_all"])
    selected = report.metrics["selected_detector"]
    assert selected == plain.metrics["selected_detector"]
    for name, detector in report.metrics["detectors"].items():
        row = detector["unknown"]["noise"]
        known = report.scores[f"known/{name}"]
        unknown = report.scores[f"unknown/noise/{name}"]
        assert row.pop("below_all") == np.mean(unknown <= known.min())
        assert row == plain.metrics["detectors"][name]["unknown"]["noise"]
        assert "below_all" in report.validation_metrics[name]
    report = evaluation.evaluate(fitted, **data, further_metrics=["below_all"])
    assert "Both on one side" in str(report)
    report.save(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("Both on one side&nbsp;↓") == 3
    assert "unknown images below the lowest known one" in page
    with pytest.raises(ValueError, match="unknown metric 'below_al'"):
        evaluation.evaluate(fitted, **data, further_metrics=["below_al"])


def test_network_runs_once_per_batch_for_all_detectors(toolbox):
    model = toolbox.make_model()
    names = ["unknown_probability", "msp", "max_logit", "energy", "objectosphere"]
    fitted = toolbox.fit_all(model, names)
    counter = model.get_layer("counter").count
    counter.assign(0.0)
    images = toolbox.make_unknown(300, seed=0)
    evaluation.evaluate(
        fitted,
        known=("digits", toolbox.make_known(300, seed=1)),
        unknown={"noise": images},
        selected_detector="msp",
    )
    # Two data sets, each in batches of 256 and 44 images.
    assert int(counter.numpy()) == 4


class _Shifted(detectors.MSP):
    """Scores darkened images, so that it needs a pass of its own."""

    changes_input = True

    def call(self, images):
        return super().call(images / 2)


def test_detector_that_changes_its_input_is_scored_by_itself(toolbox):
    model = toolbox.make_model()
    fitted = toolbox.fit_all(model, ["msp"])
    fitted["shifted"] = _Shifted(num_classes=2).fit(model)
    images, labels = toolbox.make_known(20, seed=1)
    report = evaluation.evaluate(
        fitted,
        known=("digits", (images, labels)),
        unknown={"noise": toolbox.make_unknown(20, seed=2)},
        selected_detector="shifted",
    )
    expected = fitted["msp"].score(images / 2)
    np.testing.assert_allclose(report.scores["known/shifted"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        report.scores["known/msp"], fitted["msp"].score(images), rtol=1e-6
    )
    # Accuracy is that of the untouched images.
    logits = images.reshape(20, 3)[:, :2]
    assert report.metrics["known"]["accuracy"] == np.mean(logits.argmax(1) == labels)


def test_detectors_of_another_model_keep_their_own_network(toolbox):
    first, second = toolbox.make_model(), toolbox.make_model()
    # The second model mixes the two classes up.
    kernel = 4 * np.eye(3)[[1, 0, 2]]
    second.get_layer("logits").set_weights([kernel, np.zeros(3)])
    images = toolbox.make_images([[0.9, 0, 0], [0.8, 0, 0.1], [0.1, 0.7, 0]])
    data = {
        "known": ("three", (images, np.array([0, 0, 1]))),
        "unknown": {"noise": toolbox.make_unknown(9, seed=0)},
    }
    fitted = {
        "first": detectors.get("energy", num_classes=2).fit(first),
        "second": detectors.get("max_logit", num_classes=2).fit(second),
    }
    for selected, accuracy in (("first", 1.0), ("second", 0.0)):
        report = evaluation.evaluate(fitted, **data, selected_detector=selected)
        assert report.metrics["known"]["accuracy"] == accuracy
        for name, detector in fitted.items():
            np.testing.assert_allclose(
                report.scores[f"known/{name}"], detector.score(images), rtol=1e-6
            )


def test_datasets_and_arrays_give_the_same_report(case):
    import tensorflow as tf

    report = evaluation.evaluate(
        case.fitted,
        known=("digits", tf.data.Dataset.from_tensor_slices(case.known).batch(37)),
        unknown={
            name: tf.data.Dataset.from_tensor_slices(images).batch(50)
            for name, images in case.unknown.items()
        },
        seen=["emnist/letters"],
        validation_known=tf.data.Dataset.from_tensor_slices(case.validation[0]).batch(
            9
        ),
        validation_unknown=case.validation[1],
    )
    assert report.metrics == case.report.metrics
    for ours, theirs in ((report.known, case.report.known),):
        assert ours.sample["index"].tolist() == theirs.sample["index"].tolist()
        for name, kept in theirs.examples.items():
            assert ours.examples[name]["index"].tolist() == kept["index"].tolist()


def test_selection_reads_validation_data_only(toolbox):
    """`energy` is perfect on validation and useless on test; `msp` the other way."""
    model = toolbox.make_model()
    fitted = toolbox.fit_all(model, ["msp", "energy"])
    sure, weak = [[1, 0.6, 0.6]], [[0.5, 0, 0]]
    faint, flat = [[0.45, 0, 0]], [[1, 1, 0]]
    known = toolbox.make_images(sure + weak)
    data = {
        "known": ("digits", (known, np.array([0, 0]))),
        "unknown": {"flat": toolbox.make_images(flat)},
        "validation_known": known,
        "validation_unknown": toolbox.make_images(faint),
    }
    report = evaluation.evaluate(fitted, **data)
    assert report.metrics["selected_detector"] == "energy"
    test = report.metrics["detectors"]
    assert test["energy"]["unknown"]["flat"]["auroc"] == 0.0
    assert test["msp"]["unknown"]["flat"]["auroc"] == 1.0
    name, table = evaluation.select_detector(
        fitted, known=known, unknown=data["validation_unknown"]
    )
    assert name == "energy"
    assert table == report.validation_metrics
    forced = evaluation.evaluate(fitted, **data, selected_detector="msp")
    assert forced.metrics["selected_detector"] == "msp"


@pytest.mark.parametrize(
    ("scores", "winner"),
    [
        # FPR95 of b is lower, though its AUROC is lower too.
        (
            {
                "a": ([0] * 9 + [9], [1] * 9 + [10]),
                "b": ([0] * 5 + [3] * 5, [2] * 5 + [4] * 5),
            },
            "b",
        ),
        # The same FPR95 of 0, but a has 1 in 40 known images above all the unknown.
        (
            {
                "a": ([0] * 39 + [9], [5] * 40),
                "b": ([0] * 40, [5] * 40),
            },
            "b",
        ),
        # All the same: the first.
        ({"a": ([0, 1], [2, 3]), "b": ([0, 1], [2, 3])}, "a"),
    ],
)
def test_selection_rule(scores, winner):
    known = {name: np.array(pair[0], float) for name, pair in scores.items()}
    unknown = {name: np.array(pair[1], float) for name, pair in scores.items()}
    name, table = best(known, unknown)
    assert name == winner
    assert list(table) == ["a", "b"]


def test_examples_are_the_worst_mistakes(case):
    report = case.report
    assert list(report.known.examples) == list(case.fitted)
    for name in case.fitted:
        for key, kept, images, sign in (
            ("known", report.known.examples, case.known[0], -1),
            *(
                (f"unknown/{source}", report.unknown[source].examples, images, 1)
                for source, images in case.unknown.items()
            ),
        ):
            scores = sign * report.scores[f"{key}/{name}"]
            worst = np.argsort(scores, kind="stable")[: scoring.NUM_EXAMPLES]
            assert kept[name]["index"].tolist() == worst.tolist()
            np.testing.assert_array_equal(kept[name]["images"], images[worst])


def test_feature_sample_is_capped_and_matches_its_images(case, monkeypatch):
    monkeypatch.setattr(scoring, "NUM_PICTURED", 16)
    report = evaluation.evaluate(
        case.fitted,
        known=("digits", case.known),
        unknown=case.unknown,
        selected_detector="msp",
    )
    sample = report.known.sample
    assert sample["features"].shape == (16, 3)
    assert len(set(sample["index"].tolist())) == 16
    np.testing.assert_allclose(
        sample["features"], case.known[0][sample["index"]].reshape(16, 3)
    )


def test_threshold_accepts_95_percent_of_validation_images(case):
    report = case.report
    selected = report.metrics["selected_detector"]
    accepted = report.scores[f"validation/known/{selected}"] <= report.threshold.value
    assert 0.95 <= accepted.mean() <= 0.96
    scores = report.scores[f"unknown/emnist/letters/{selected}"]
    assert report.accepted("emnist/letters") == np.mean(
        scores <= report.threshold.value
    )


def test_printing_shows_the_table(case):
    assert str(case.report) == evaluation.format_table(case.report.metrics)


def test_progress_is_quiet_without_a_terminal(case, capsys):
    evaluation.evaluate(
        {"msp": case.fitted["msp"]},
        known=("digits", case.known),
        unknown={"noise": case.unknown["emnist/letters"]},
    )
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"detectors": {}}, ValueError, "no detectors"),
        (
            {"detectors": {"msp": detectors.get("msp", num_classes=2)}},
            RuntimeError,
            "'msp' has learnt nothing yet; call fit",
        ),
        ({"detectors": "a/b"}, ValueError, "no `/`"),
        ({"selected_detector": "odin"}, ValueError, r"one of \['unknown_prob"),
        ({"selected_detector": None}, ValueError, "must not decide"),
        ({"validation_known": True}, ValueError, "both `validation_known` and"),
        ({"unknown": {}}, ValueError, "no unknown images"),
        ({"unknown": {"digits": True}}, ValueError, "'digits' is both known and"),
        ({"unknown": {"empty": "empty"}}, ValueError, "empty has no images"),
        ({"known": "empty"}, ValueError, "digits has no images"),
        ({"known": "unlabelled"}, ValueError, "no labels"),
        ({"known": "images"}, ValueError, "pair"),
        ({"known": "unknown labels"}, ValueError, r"0\.\.1.*such as -1"),
        ({"known": "third class"}, ValueError, r"0\.\.1.*such as 2"),
        ({"seen": "emnist/letters"}, ValueError, "list of names"),
    ],
)
def test_wrong_arguments_teach(case, change, error, message):
    images, labels = case.known
    arguments = {
        "known": ("digits", case.known),
        "unknown": case.unknown,
        "selected_detector": "msp",
        **change,
    }
    fitted = arguments.pop("detectors", case.fitted)
    if fitted == "a/b":
        fitted = {"a/b": case.fitted["msp"]}
    special = {
        "empty": ("digits", (images[:0], labels[:0])),
        "unlabelled": ("digits", images),
        "images": images,
        "unknown labels": ("digits", (images, np.where(labels == 1, -1, labels))),
        "third class": ("digits", (images, labels * 2)),
    }
    if isinstance(arguments["known"], str):
        arguments["known"] = special[arguments["known"]]
    if "empty" in arguments["unknown"]:
        arguments["unknown"] = {"empty": images[:0]}
    if "validation_known" in arguments:
        arguments["validation_known"] = images
    with pytest.raises(error, match=message):
        evaluation.evaluate(fitted, **arguments)


def test_nan_scores_name_the_detector_and_the_data(case):
    images = case.unknown["emnist/letters"].copy()
    images[3] = np.nan
    with pytest.raises(ValueError, match=r"'msp' gives NaN for 1 of 200 images of bad"):
        evaluation.evaluate(
            {"msp": case.fitted["msp"]},
            known=("digits", case.known),
            unknown={"bad": images},
        )


def test_detectors_must_share_their_classes(case, toolbox):
    other = detectors.get("energy", num_classes=3).fit(toolbox.make_model())
    with pytest.raises(ValueError, match=r"same known classes.*'three': 3"):
        evaluation.evaluate(
            {**case.fitted, "three": other},
            known=("digits", case.known),
            unknown=case.unknown,
            selected_detector="msp",
        )


def test_impossible_numbers_are_never_reported(case, monkeypatch):
    real = metrics.RankedScores.evaluate
    monkeypatch.setattr(
        metrics.RankedScores,
        "evaluate",
        lambda *arguments: {**real(*arguments), "auroc": 0.1},
    )
    with pytest.raises(RuntimeError, match=r"contradict each other.*auroc=0\.1"):
        evaluation.evaluate(
            {"msp": case.fitted["msp"]},
            known=("digits", case.known),
            unknown=case.unknown,
        )
