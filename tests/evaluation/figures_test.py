"""Figures: what they draw, odd inputs, and nothing left behind."""

import io
import sys

import matplotlib
import numpy as np
import pytest

from ood_keras.evaluation import figures, style

KNOWN = np.array([0.0, 1.0, 2.0, 3.0])
UNKNOWN = {"letters": np.array([2.5, 4.0]), "noise": np.array([5.0, 6.0, 7.0])}


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    return {
        "known_features": generator.normal(size=(40, 2)),
        "known_labels": np.arange(40) % 4,
        "unknown_features": {name: generator.normal(size=(9, 2)) for name in UNKNOWN},
    }


def _saved(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _texts(figure):
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def test_roc_draws_the_exact_curve():
    figure = figures.roc(KNOWN, UNKNOWN, seen=["letters"], log_x=False)
    curve = figure.axes[0].lines[0]
    # Three known are below both letters; the fourth lies between them.
    assert curve.get_xydata().tolist() == [
        [0, 0],
        [0, 0.75],
        [0.5, 0.75],
        [0.5, 1],
        [1, 1],
    ]
    assert curve.get_linestyle() == "--"
    assert figure.axes[0].lines[1].get_linestyle() == "-"
    assert "letters (seen): AUROC 87.50 %" in _texts(figure)
    assert "noise: AUROC 100.00 %" in _texts(figure)


def test_roc_keeps_zero_visible_on_a_logarithmic_axis():
    figure = figures.roc(KNOWN, UNKNOWN)
    left = figure.axes[0].get_xlim()[0]
    assert figure.axes[0].get_xscale() == "log"
    assert 0 < left <= figure.axes[0].lines[1].get_xdata().min()


def test_density_counts_every_image_and_marks_the_threshold():
    figure = figures.density(KNOWN, UNKNOWN, threshold=2.5)
    axes = figure.axes[0]
    outlines = [patch.get_data().values for patch in axes.patches]
    assert [round(values.sum(), 9) for values in outlines] == [1, 1, 1, 1]
    assert axes.lines[0].get_xdata() == [2.5, 2.5]
    assert "accepted: 75.00 % of known, 50.00 % of unknown" in _texts(figure)


def test_density_adds_a_column_for_confidence():
    confidence = {name: np.linspace(0, 1, len(v)) for name, v in UNKNOWN.items()}
    arguments = {"known_confidence": KNOWN / 3, "unknown_confidence": confidence}
    assert len(figures.density(KNOWN, UNKNOWN).axes) == 2
    assert len(figures.density(KNOWN, UNKNOWN, **arguments).axes) == 4


@pytest.mark.parametrize(
    "scores",
    [
        [1.0, 1.0, 1.0],
        [-np.inf, 0.0, np.inf],
        [np.inf, np.inf],
        [0.5],
        [1e30, -1e30, 3.0],
    ],
)
def test_score_figures_take_odd_scores(scores):
    scores = np.array(scores, np.float32)
    for threshold in (None, 0.0, np.inf):
        figure = figures.density(scores, {"same": scores}, threshold=threshold)
        assert _saved(figure)
    assert _saved(figures.roc(scores, {"same": scores}))


def test_features_of_size_two_are_drawn_as_they_are(features):
    figure = figures.features_2d(**features)
    drawn = {tuple(row) for row in figure.axes[0].collections[0].get_offsets()}
    assert {tuple(row) for row in features["known_features"]} <= drawn
    assert "the 2-D feature layer itself" in figure.axes[0].get_title(loc="left")


def test_unknown_points_are_black_and_as_many_as_known_ones_at_most(features):
    features["unknown_features"] = {
        name: np.full((500, 2), index) for index, name in enumerate("abc")
    }
    points = figures.features_2d(**features).axes[0].collections[0]
    black = (points.get_facecolors()[:, :3] == 0).all(axis=1)
    assert 40 <= black.sum() <= 42
    assert len(np.unique(points.get_offsets()[black], axis=0)) == 3


def test_larger_features_are_projected_on_their_principal_components(features):
    from sklearn.decomposition import PCA

    known = np.random.default_rng(1).normal(size=(40, 5)) * [1, 9, 2, 5, 1]
    features["known_features"] = known
    features["unknown_features"] = {"letters": known[:2] + 1}
    figure = figures.features_2d(**features)
    drawn = np.asarray(figure.axes[0].collections[0].get_offsets())
    expected = PCA(2).fit(known).transform(np.concatenate([known, known[:2] + 1]))
    np.testing.assert_allclose(
        np.sort(np.abs(drawn), axis=0), np.sort(np.abs(expected), axis=0), atol=1e-9
    )
    assert "2 principal components of 5 features" in figure.axes[0].get_title(
        loc="left"
    )


@pytest.mark.parametrize("shape", [(40, 1), (40, 3), (1, 5)])
def test_features_may_be_constant_or_few(shape):
    known = np.ones(shape)
    figure = figures.features_2d(known, np.zeros(len(known), int), {"same": known})
    assert _saved(figure)


def test_class_names_are_written(features):
    assert "3" in _texts(figures.features_2d(**features))
    names = ["zero", "one", "two", "three"]
    assert "three" in _texts(figures.features_2d(**features, class_names=names))


def test_class_names_do_not_cover_one_another(features):
    # All classes lie in one place.
    features["known_features"] = np.zeros_like(features["known_features"])
    names = ["one", "two", "three", "four"]
    figure = figures.features_2d(**features, class_names=names)
    figure.draw_without_rendering()
    boxes = [text.get_bbox_patch().get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) > 1
    for index, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:index])


def test_projected_features_are_drawn_under_what_they_are(features):
    figure = figures.grid(KNOWN, UNKNOWN, **features, what="2 of 128 components")
    assert "2 of 128 components" in _texts(figure)


def test_networks_are_compared_by_features_and_their_lengths(features):
    parts = tuple(features.values())
    figure = figures.compare_features({"without": parts, "with": parts})
    assert len(figure.axes) == 4
    assert {"without", "with"} <= set(_texts(figure))
    lengths = figure.axes[2].patches[0].get_data()
    expected, _ = np.histogram(
        np.minimum(np.linalg.norm(parts[0], axis=1), lengths.edges[-1]), lengths.edges
    )
    np.testing.assert_allclose(lengths.values, expected / 40)
    # The origin, from which lengths count, in both upper panels.
    assert [axes.lines[0].get_xydata().tolist() for axes in figure.axes[:2]] == [
        [[0, 0]],
        [[0, 0]],
    ]
    zeros = np.zeros((3, 2)), np.zeros(3, int), {"a": np.zeros((3, 2))}
    assert _saved(figures.compare_features({"nothing": zeros}))


def test_compared_networks_name_their_unknown_if_it_is_one(features):
    def legend(*sources):
        rows = {source: np.zeros((2, 2)) for source in sources}
        parts = features["known_features"], features["known_labels"], rows
        (found,) = figures.compare_features({"a": parts, "b": parts}).legends
        return [text.get_text() for text in found.get_texts()]

    assert legend("letters")[1] == "unknown: letters"
    assert legend("letters", "noise")[1] == "unknown"


def test_perturbed_densities_count_every_image():
    scores = {"as they are": KNOWN, "noise 1": KNOWN + 3}
    unknown = UNKNOWN["letters"]
    figure = figures.perturbed_density(scores, unknown, threshold=3.5)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(scores)
    for axes, known in zip(figure.axes, scores.values(), strict=True):
        assert axes.lines[0].get_xdata()[0] == 3.5
        for patches, values in ((axes.patches[:2], known), (axes.patches[2:], unknown)):
            data = patches[0].get_data()
            expected = np.histogram(values, data.edges)[0] / len(values)
            np.testing.assert_allclose(data.values, expected)
            assert data.values.sum() == pytest.approx(1)
    assert figure.axes[1].get_title(loc="right") == (
        "accepted: 25.00 % of known, 50.00 % of unknown"
    )


def test_perturbed_densities_add_a_column_for_confidence():
    confidence = np.array([0.995, 0.9, 0.9, 0.1])
    figure = figures.perturbed_density(
        {"a": KNOWN, "b": KNOWN},
        UNKNOWN["letters"],
        threshold=0.0,
        known_confidence={"a": confidence, "b": 1 - confidence},
        unknown_confidence=np.array([0.005, 0.1]),
    )
    assert len(figure.axes) == 4
    drawn = [figure.axes[index].patches[0].get_data() for index in (0, 2)]
    assert drawn[0].edges[[0, -1]].tolist() == [0, 1]
    assert drawn[0].values[-1] == drawn[1].values[0] == 0.25
    assert figure.axes[0].patches[2].get_data().values[0] == 0.5
    assert "confidence" in figure.axes[2].get_xlabel()
    assert _saved(figure)


def test_training_curve_draws_what_it_is_given():
    figure = figures.training_curve({"FPR95": ([1, 2], [0.5, 0.25])}, title="paper")
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[1, 0.5], [2, 0.25]]
    assert _saved(figure)


def test_training_curve_shows_that_a_share_became_zero():
    figure = figures.training_curve({"FPR95": ([1, 2], [0.5, 0.0])}, title="paper")
    axes = figure.axes[0]
    low, zero = axes.transData.transform([(1, axes.get_ylim()[0]), (2, 0)])[:, 1]
    assert zero == low
    assert axes.get_yscale() == "symlog"


def test_grid_has_a_row_for_every_unknown(features):
    figure = figures.grid(KNOWN, UNKNOWN, **features, threshold=2.0, seen=["noise"])
    assert len(figure.axes) == 3 * len(UNKNOWN)
    assert {"letters", "noise (seen)", "AUROC 87.50 %"} <= set(_texts(figure))
    assert _saved(figure)


def test_pictures_draw_every_image_and_name_empty_rows():
    gray, color = np.zeros((3, 4, 4, 1)), np.ones((2, 4, 4, 3))
    figure = figures.pictures(
        {
            "gray": (gray, ["a", "b", "c"]),
            "color": (color, ["d", "e"]),
            "empty": (gray[:0], []),
        }
    )
    assert len(figure.axes) == 5
    assert {"gray", "color", "empty: none", "a", "e"} <= set(_texts(figure))
    assert _saved(figure)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_pictures_of_any_channels_are_drawn(channels):
    images = np.random.default_rng(0).random((2, 4, 5, channels))
    figure = figures.pictures({"known": (images, ["a", "b"])})
    for axes, image in zip(figure.axes, images, strict=True):
        (shown,) = axes.get_images()
        expected = image if channels == 3 else image.mean(-1)
        np.testing.assert_allclose(shown.get_array(), expected)


def test_user_settings_and_pyplot_are_left_alone(features):
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        figure = figures.roc(KNOWN, UNKNOWN)
        assert figure.axes[0].get_facecolor() == (1.0, 1.0, 1.0, 1.0)
        assert matplotlib.rcParams["font.size"] == 30
    figures.features_2d(**features)
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_colors_repeat_but_known_is_never_an_unknown_source():
    assert style.KNOWN not in style.SOURCES
    assert style.source_color(len(style.SOURCES)) == style.SOURCES[0]
    assert len(set(style.CLASSES)) == 10


def test_one_score_is_marked_among_the_others():
    figure = figures.score_among(3.5, KNOWN, UNKNOWN["noise"], threshold=2.5)
    axes = figure.axes[0]
    threshold, image = (line.get_xdata() for line in axes.lines[:2])
    assert (threshold, image) == ([2.5, 2.5], [3.5, 3.5])
    assert {"known", "unknown", "threshold", "this image"} <= set(_texts(figure))
    _saved(figure)


def test_a_score_without_unknown_ones_or_far_outside_is_drawn():
    figure = figures.score_among(1e30, KNOWN, threshold=2.5)
    assert "unknown" not in _texts(figure)
    low, high = figure.axes[0].get_xlim()
    assert low <= figure.axes[0].lines[1].get_xdata()[0] <= high
    _saved(figure)
    _saved(figures.score_among(None, KNOWN, threshold=2.5))
