"""Each detector on a small model against a slow, separate NumPy reference."""

import types

import keras
import numpy as np
import pytest
from gradients import values_and_gradient
from keras import ops
from references import detectors_reference as reference

from ood_keras import detectors
from ood_keras.detectors import perturbation

LAYERS = ["functional_convolution", "functional_hidden"]


def outputs_of(network, images):
    return next(iter(network.batches(images, batch_size=1000, layers=LAYERS)))[0]


@pytest.fixture(scope="module", params=[3, 4], ids=["known_only", "unknown_class"])
def world(request, trained, data):
    """What a model makes of the training and the unknown images, as NumPy arrays."""
    model = trained[request.param]
    network = detectors.Network(model)
    kernel, bias = network.head
    return types.SimpleNamespace(
        model=model,
        network=network,
        labels=data.train[1],
        kernel=kernel,
        bias=bias,
        train=outputs_of(network, data.train[0]),
        test=outputs_of(network, np.concatenate([data.known, data.unknown])),
    )


@pytest.fixture
def check(world, data):
    """Compares `detectors.get(name, **kwargs)` with scores of the reference."""
    images = np.concatenate([data.known, data.unknown])

    def run(name, expected, rtol=2e-3, atol=2e-5, fit_data=None, **kwargs):
        detector = detectors.get(name, **kwargs)
        scores = detector.fit(
            world.model, data.train if fit_data is None else fit_data
        ).score(images)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(scores, expected, rtol=rtol, atol=atol * scale)

    return run


@pytest.mark.parametrize(
    "name",
    ["msp", "max_logit", "energy", "entropy", "gen", "differential_entropy"],
)
def test_output_based(check, world, name):
    check(name, getattr(reference, name)(world.test["logits"], 3))


def test_gen_with_few_probabilities(check, world):
    expected = reference.gen(world.test["logits"], 3, gamma=0.5, num_top=2)
    check("gen", expected, gamma=0.5, num_top=2)


def test_objectosphere_on_features(check, world):
    expected = [-np.linalg.norm(row) for row in world.test["features"]]
    check("objectosphere", np.array(expected), on="features")


def test_objectosphere_on_the_product(check, world):
    norms = np.linalg.norm(world.test["features"], axis=-1)
    largest = [max(reference.softmax(row)[:3]) for row in world.test["logits"]]
    check("objectosphere", -np.log(largest * norms), on="product")


def test_objectosphere_is_finite_where_all_features_are_zero():
    outputs = {
        "logits": np.array([[0, 1, 2], [0, 1, 9]], np.float32),
        "features": np.array([[0, 0], [3, 4]], np.float32),
    }
    detector = detectors.get("objectosphere", num_classes=3, on="product")
    nothing, something = keras.ops.convert_to_numpy(detector.score_outputs(outputs))
    assert np.isfinite(nothing)
    assert nothing > something


def test_kl_matching(check, world):
    train, test = world.train["logits"], world.test["logits"]
    check("kl_matching", reference.kl_matching(train, test, 3))


GAUSSIANS = [{}, {"shrinkage": 0.2}, {"cutoff": 0.0}, {"cutoff": 0.1}]


@pytest.mark.parametrize("arguments", GAUSSIANS, ids=str)
@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis"])
def test_mahalanobis(check, world, name, arguments):
    expected = getattr(reference, name)(
        world.train["features"], world.labels, world.test["features"], **arguments
    )
    check(name, expected, **arguments)


def test_mahalanobis_over_layers(check, world):
    expected = 0.0
    for name in LAYERS:
        train, test = (
            outputs["layers"][name].reshape(
                len(outputs["logits"]), -1, outputs["layers"][name].shape[-1]
            )
            for outputs in (world.train, world.test)
        )
        train, test = train.mean(axis=1), test.mean(axis=1)
        covariance = reference.pooled_covariance(train, world.labels)
        values = np.linalg.eigvalsh(covariance)
        rank = np.sum(values > 1e-4 * values.max())
        distance = reference.mahalanobis(train, world.labels, test)
        expected = expected + distance / rank
    check("mahalanobis", expected, layers=LAYERS)


SPACES = [
    {"normalize": True, "projection": None},
    {"normalize": False, "projection": None},
    {"normalize": True, "projection": 5},
    {"normalize": False, "projection": 5},
]


@pytest.fixture(params=SPACES, ids=str)
def space(request, world):
    """Arguments, and what the features are in the space that they ask for."""
    return request.param, reference.space(
        world.train["features"], world.test["features"], **request.param
    )


@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis"])
def test_mahalanobis_in_another_space(check, world, space, name):
    arguments, (train, test) = space
    expected = getattr(reference, name)(train, world.labels, test)
    # Features of length 1 vary little in some directions.
    check(name, expected, rtol=1e-2, atol=2e-4, **arguments)


def test_she_in_another_space(check, world, space):
    arguments, (train, test) = space
    expected = reference.she(
        train, world.train["logits"], world.labels, test, world.test["logits"], 3
    )
    check("she", expected, **arguments)


def test_one_class_svm_in_another_space(check, world, space):
    arguments, (train, test) = space
    # Up to signs of directions, which no distance sees.
    expected = reference.one_class_svm(train, test, nu=0.1)
    check("one_class_svm", expected, atol=1e-3, **arguments)


def test_each_layer_has_a_space_of_its_own(check, world):
    expected = 0.0
    for name in LAYERS:
        train, test = reference.space(
            *(
                outputs["layers"][name]
                .reshape(len(outputs["logits"]), -1, outputs["layers"][name].shape[-1])
                .mean(axis=1)
                for outputs in (world.train, world.test)
            ),
            normalize=True,
            projection=4,
        )
        distance = reference.mahalanobis(train, world.labels, test)
        expected = expected + distance / 4
    arguments = {"layers": LAYERS, "normalize": True, "projection": 4}
    check("mahalanobis", expected, rtol=1e-2, atol=2e-4, **arguments)


@pytest.mark.parametrize("k", [1, 7])
def test_knn(check, world, space, k):
    arguments, (train, test) = space
    expected = reference.knn(train, test, k)
    # Which neighbour is the k-th is decided in float32, and a distance near 0 is the
    # root of what the rounding of products leaves: more with JAX's.
    atol = 6e-4 if keras.backend.backend() == "jax" else 2e-4
    check("knn", expected, k=k, atol=atol, **arguments)


# About their mean, these features spread in fewer than six directions.
@pytest.mark.parametrize(
    "dimension, origin", [(None, "head"), (4, "head"), (4, "mean")]
)
def test_vim(check, world, dimension, origin):
    rank = np.linalg.matrix_rank(world.train["features"])
    if dimension is None and rank <= 7:
        # Trained on another backend, this network has other features that are all 0.
        pytest.skip(f"a residual of rounding: the features have rank {rank}")
    expected = reference.vim(
        world.train["features"],
        world.train["logits"],
        world.test["features"],
        world.test["logits"],
        world.kernel[:, :3],
        world.bias[:3],
        dimension or 6,
        mean=origin == "mean",
    )
    check("vim", expected, dimension=dimension, origin=origin)


def test_vim_of_features_of_length_1(check, world):
    train, test = reference.space(
        world.train["features"], world.test["features"], normalize=True
    )
    expected = reference.vim(
        train,
        world.train["logits"],
        test,
        world.test["logits"],
        world.kernel[:, :3],
        world.bias[:3],
        4,
        mean=True,
    )
    check("vim", expected, dimension=4, origin="mean", normalize=True)


def test_she(check, world):
    expected = reference.she(
        world.train["features"],
        world.train["logits"],
        world.labels,
        world.test["features"],
        world.test["logits"],
        3,
    )
    check("she", expected)


def test_she_with_a_class_that_is_never_predicted_right(check, world, data):
    labels = (data.train[1] + (data.train[1] == 2)) % 3  # 2 becomes 0, and no 2 is left
    labels[:30] = 2 - (np.arange(30) % 3 == 2) * 2  # 2 where the prediction is not
    expected = reference.she(
        world.train["features"],
        world.train["logits"],
        labels,
        world.test["features"],
        world.test["logits"],
        3,
    )
    assert np.all(np.isfinite(expected))
    check("she", expected, fit_data=(data.train[0], labels))


@pytest.mark.parametrize("labelled", ["all", "some_wrong", "not"])
@pytest.mark.parametrize(("num_powers", "quantile"), [(1, 0.0), (4, 0.1)])
def test_gram(check, world, data, num_powers, quantile, labelled):
    def part(outputs, rows):
        maps = [
            outputs["layers"][name].reshape(
                len(outputs["logits"]), -1, outputs["layers"][name].shape[-1]
            )[rows]
            for name in LAYERS
        ]
        return maps, outputs["logits"][rows, :3].argmax(axis=1)

    position = np.arange(len(world.labels))
    predicted = world.train["logits"][:, :3].argmax(axis=1)
    # Of class 2 none is right, so that all images predicted so count.
    labels = np.where((predicted == 2) | (position % 7 == 0), 0, predicted)
    labels, fit_data = {
        "all": (world.labels, data.train),
        "some_wrong": (labels, (data.train[0], labels)),
        "not": (predicted, data.train[0]),
    }[labelled]
    used = (labels == predicted) | ((predicted == 2) & (labelled == "some_wrong"))
    expected = reference.gram(
        part(world.train, used & (position % 10 != 9)),
        part(world.train, position % 10 == 9),
        part(world.test, slice(None)),
        num_powers,
        quantile,
    )
    arguments = {"num_powers": num_powers, "quantile": quantile, "num_classes": 3}
    check("gram", expected, rtol=1e-2, fit_data=fit_data, **arguments)


@pytest.mark.parametrize("shift", [1.0, 10_000.0])
@pytest.mark.parametrize("num_top", [1, 3])
def test_openmax(check, world, num_top, shift):
    expected = reference.openmax(
        world.train["logits"],
        world.labels,
        world.test["logits"],
        3,
        20,
        num_top,
        shift if shift == 1 else None,
    )
    check("openmax", expected, num_top=num_top, shift=shift, rtol=1e-2)


@pytest.mark.parametrize("none_right", [False, True])
def test_openmax_with_images_that_are_predicted_wrong(check, world, data, none_right):
    predicted = world.train["logits"][:, :3].argmax(axis=1)
    wrong = np.arange(len(predicted)) % 7 == 0
    labels = np.where(wrong | (none_right & (predicted == 2)), 0, predicted)
    if none_right:
        labels[wrong & (predicted != 2)] = 2
    test = world.test["logits"]
    expected = reference.openmax(world.train["logits"], labels, test, 3, 20, 3, 1.0)
    fit_data = (data.train[0], labels)
    check("openmax", expected, num_top=3, shift=1.0, rtol=1e-2, fit_data=fit_data)


def test_nnguide(check, world, space):
    arguments, (train, test) = space
    expected = reference.nnguide(
        train, world.train["logits"], test, world.test["logits"], 3, 5
    )
    check("nnguide", expected, k=5, **arguments)


def test_fdbd(check, world):
    expected = reference.fdbd(
        world.train["features"],
        world.test["features"],
        world.test["logits"],
        world.kernel,
        3,
    )
    check("fdbd", expected)


@pytest.mark.parametrize("name", ["energy", "msp"])
def test_react(check, world, name):
    clipped = reference.react(world.train["features"], world.test["features"], 0.8)
    expected = getattr(reference, name)(clipped @ world.kernel + world.bias, 3)
    check("react", expected, quantile=0.8, detector=name)


# Of 12 features, 7.2 and 7.8: which are 7 and 8.
PERCENTILES = [0.6, 0.65]


@pytest.mark.parametrize("percentile", PERCENTILES)
@pytest.mark.parametrize("treatment", ["scale", "prune", "binarize"])
def test_ash(check, world, treatment, percentile):
    shaped = reference.ash(world.test["features"], percentile, treatment)
    expected = reference.energy(shaped @ world.kernel + world.bias, 3)
    check("ash", expected, percentile=percentile, treatment=treatment)


@pytest.mark.parametrize("percentile", PERCENTILES)
def test_scale(check, world, percentile):
    stretched = reference.scale(world.test["features"], percentile)
    expected = reference.energy(stretched @ world.kernel + world.bias, 3)
    check("scale", expected, percentile=percentile)


@pytest.mark.parametrize("alpha", [None, 0.0, 0.2])
def test_nci(check, world, alpha):
    expected = reference.nci(
        world.train["features"],
        world.train["logits"],
        world.test["features"],
        world.test["logits"],
        world.kernel,
        3,
        alpha,
    )
    check("nci", expected, alpha=alpha)


@pytest.mark.parametrize("orthogonal_to", ["predicted", "all"])
def test_core(check, world, orthogonal_to):
    expected = reference.core(
        world.train, world.labels, world.test, world.kernel[:, :3], 3, orthogonal_to
    )
    check("core", expected, orthogonal_to=orthogonal_to)


@pytest.mark.parametrize("percentile", PERCENTILES)
@pytest.mark.parametrize("name", ["energy", "max_logit"])
def test_lts(check, world, name, percentile):
    scaled = reference.lts(world.test["features"], world.test["logits"], percentile)
    expected = getattr(reference, name)(scaled, 3)
    check("lts", expected, percentile=percentile, detector=name)


@pytest.mark.parametrize(
    "low, high, amplification", [(0.6, 0.95, 0.0), (0.0, 0.8, 0.0), (0.5, 0.9, 0.3)]
)
def test_vra(check, world, low, high, amplification):
    rectified = reference.vra(
        world.train["features"],
        world.test["features"],
        # Below the smallest known one, features stay as they are.
        *(low, high, amplification),
    )
    if low == 0:
        below = world.test["features"] < world.train["features"].min(axis=0)
        rectified = np.where(below, world.test["features"], rectified)
    expected = reference.energy(rectified @ world.kernel + world.bias, 3)
    check("vra", expected, low=low, high=high, amplification=amplification)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_repeats": 7, "num_bins": 30, "smoothing": 4, "smoothing_perturbed": 4},
        {
            "num_repeats": 3,
            "num_bins": 25,
            "smoothing": 1,
            "smoothing_perturbed": 1,
            "lambda_1": 2.5,
            "lambda_2": 0.1,
            "distance": 0.5,
            "seed": 3,
        },
    ],
    ids=str,
)
def test_weiper(check, world, data, arguments):
    detector = detectors.get("weiper", **arguments).fit(world.model, data.train)
    arrays = detector.get_arrays()
    kernels = np.split(
        arrays["kernel"].astype(np.float64), arguments["num_repeats"], axis=1
    )
    # Each is the kernel and a step of the length asked for, in directions of its own.
    steps = np.stack(kernels) - world.kernel[:, :3]
    np.testing.assert_allclose(
        np.linalg.norm(steps, axis=1) / np.linalg.norm(world.kernel[:, :3], axis=0),
        arguments.get("distance", 1.8),
        rtol=1e-5,
    )
    assert len(np.unique(steps[:, 0, 0])) == arguments["num_repeats"]
    expected = reference.weiper(
        world.train["features"],
        world.test["features"],
        kernels,
        world.bias[:3],
        arguments["num_bins"],
        arguments["smoothing"],
        arguments.get("lambda_1", 2.5),
        arguments.get("lambda_2", 0.1),
    )
    check("weiper", expected, atol=2e-4, **arguments)


@pytest.mark.parametrize("regularization", [1.0, 0.1])
def test_combood(check, world, space, regularization):
    arguments, (train, test) = space
    expected = reference.combood(train, test, 10, regularization)
    # The power of the transform is the end of an iteration.
    check(
        "combood",
        expected,
        rtol=2e-2,
        atol=1e-3,
        regularization=regularization,
        **arguments,
    )


def test_dice(check, world):
    logits = reference.dice(
        world.train["features"], world.test["features"], world.kernel, world.bias, 0.7
    )
    check("dice", reference.energy(logits, 3), sparsity=0.7)


@pytest.mark.parametrize("temperature", [1.0, 1000.0])
def test_odin(world, data, temperature):
    """Against the paper's words: raise the log of the largest softmax probability."""
    images = np.concatenate([data.known, data.unknown])

    def best(images):
        logits = world.model(images, training=False)
        log_softmax = ops.log_softmax(logits / temperature)
        return ops.max(log_softmax[:, :3], axis=-1)

    moved = images + 0.01 * np.sign(values_and_gradient(best, images)[1])
    logits = ops.convert_to_numpy(world.model(moved))
    expected = reference.msp(logits, 3, temperature)
    odin = detectors.get("odin", epsilon=0.01, temperature=temperature)
    scores = odin.fit(world.model, data.train).score(images)
    # Rounding flips the sign of single gradients that are nearly 0.
    close = np.isclose(scores, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())
    assert np.mean(close) > 0.95


def test_odin_moves_images_by_gradients_of_gram(world, data):
    gram = detectors.get("gram").fit(world.model, data.train)

    def run(images):
        outputs = gram.network(images, gram.layers)
        return outputs, [gram.score_outputs(outputs)]

    # Known images lie within its ranges, where it is constant.
    _, (moved,) = perturbation.lower_scores(data.unknown, run, 0.01)
    # Gradients that are NaN would leave the pixels where they are.
    assert np.mean(ops.convert_to_numpy(moved) != data.unknown) > 0.9


def test_odin_without_a_step_is_what_it_wraps(world, data):
    odin = detectors.get("odin", epsilon=0, detector="energy")
    energy = detectors.get("energy").fit(world.model, data.train)
    np.testing.assert_array_equal(
        odin.fit(world.model, data.train).score(data.known), energy.score(data.known)
    )


def features_and_pull_back(features_of, images):
    """Features, and what brings a gradient by them back to the images."""

    def pull_back(gradient):
        gradient = gradient.astype(np.float32)
        return values_and_gradient(
            lambda images: ops.sum(ops.multiply(gradient, features_of(images)), axis=1),
            images,
        )[1]

    return ops.convert_to_numpy(features_of(images)), pull_back


@pytest.mark.parametrize("layers", [None, LAYERS], ids=["features", "two_layers"])
def test_mahalanobis_with_a_perturbation(world, data, layers):
    """Lee et al.: each layer's distance, of the image moved against its gradient."""
    images = np.concatenate([data.known, data.unknown])
    expected = 0.0
    for name in layers or LAYERS[1:]:
        output = world.model.get_layer(name).output
        part = keras.Model(world.model.inputs[0], output)

        def features_of(batch, part=part):
            maps = part(batch, training=False)
            return ops.mean(maps, axis=(1, 2)) if len(maps.shape) == 4 else maps

        train = ops.convert_to_numpy(features_of(data.train[0]))
        covariance = reference.pooled_covariance(train, world.labels)
        inverse = np.linalg.pinv(covariance, rcond=1e-4, hermitian=True)
        means = np.stack(reference.class_means(train, world.labels))
        # In float64, which JAX may not have.
        features, pull_back = features_and_pull_back(features_of, images)
        gaps = features[:, None].astype(np.float64) - means
        distances = np.einsum("ncd,de,nce->nc", gaps, inverse, gaps)
        nearest = gaps[np.arange(len(gaps)), distances.argmin(axis=1)]
        moved = images - 0.002 * np.sign(pull_back(2 * nearest @ inverse))
        distance = reference.mahalanobis(
            train, world.labels, ops.convert_to_numpy(features_of(moved))
        )
        rank = np.linalg.matrix_rank(inverse, hermitian=True) if layers else 1
        expected = expected + distance / rank
    detector = detectors.get("mahalanobis", perturbation=0.002, layers=layers)
    scores = detector.fit(world.model, data.train).score(images)
    # Rounding flips the sign of single gradients that are nearly 0.
    close = np.isclose(scores, expected, rtol=1e-2, atol=1e-3 * np.abs(expected).max())
    assert np.mean(close) > 0.95


def test_weights_of_layers_are_those_of_a_logistic_regression(world, data):
    linear_model = pytest.importorskip("sklearn.linear_model")
    distances = [
        np.stack(
            [
                detectors.get("mahalanobis", layers=[name])
                .fit(world.model, data.train)
                .score(images)
                for name in LAYERS
            ],
            axis=1,
        )
        for images in (data.known, data.unknown)
    ]
    both = np.concatenate(distances).astype(np.float64)
    regression = linear_model.LogisticRegression(class_weight="balanced")
    regression.fit((both - both.mean(0)) / both.std(0), np.repeat([0, 1], 60))
    decision = regression.decision_function((both - both.mean(0)) / both.std(0))
    detector = detectors.get("mahalanobis", layers=LAYERS).fit(world.model, data.train)
    detector.weigh_layers(data.known, data.unknown)
    images = np.concatenate([data.known, data.unknown])
    # All but the intercept, which moves no image past another.
    gaps = decision - detector.score(images)
    np.testing.assert_allclose(gaps, gaps[0], atol=2e-3 * np.abs(decision).max())


def test_a_mahalanobis_perturbation_lowers_the_distance(world, data):
    plain = detectors.get("mahalanobis").fit(world.model, data.train)
    moved = detectors.get("mahalanobis", perturbation=0.001)
    moved.fit(world.model, data.train)
    lower = moved.score(data.unknown) < plain.score(data.unknown)
    assert np.mean(lower) > 0.95


def test_ensemble(world, data):
    members = ["energy", "knn"]
    images = np.concatenate([data.known, data.unknown])
    validation = (data.known, np.arange(60) % 3)
    expected = 0.0
    for name in members:
        member = detectors.get(name).fit(world.model, data.train)
        usual = member.score(data.known).astype(np.float64)
        expected = expected + (member.score(images) - usual.mean()) / usual.std() / 2
    ensemble = detectors.get("ensemble", detectors=members)
    scores = ensemble.fit(world.model, data.train, validation).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_an_ensemble_with_light_tails(world, data):
    members = ["energy", "mahalanobis"]
    images = np.concatenate([data.known, data.unknown])
    expected = 0.0
    for name in members:
        member = detectors.get(name).fit(world.model, data.train)
        usual = member.score(data.train[0]).astype(np.float64)
        low, middle, high = np.percentile(usual, [16, 50, 84])
        standard = (member.score(images) - middle) / ((high - low) / 2)
        expected = expected + np.arcsinh(standard) / 2
    ensemble = detectors.get("ensemble", detectors=members, light_tails=True)
    scores = ensemble.fit(world.model, data.train).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)


def test_an_ensemble_of_features_of_two_layers_runs_the_network_once(
    world, data, tmp_path, monkeypatch
):
    members = [
        {"name": "knn"},
        {"name": "mahalanobis", "features": "functional_convolution"},
        {"name": "react", "detector": "energy"},
    ]
    images = np.concatenate([data.known, data.unknown])
    expected = 0.0
    for member in members:
        single = detectors.get(**member).fit(world.model, data.train)
        usual = single.score(data.train[0]).astype(np.float64)
        expected = expected + (single.score(images) - usual.mean()) / usual.std() / 3
    ensemble = detectors.get("ensemble", detectors=members)
    scores = ensemble.fit(world.model, data.train).score(images)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3)
    runs = []
    layer = world.model.get_layer(LAYERS[0])
    call = layer.call
    monkeypatch.setattr(layer, "call", lambda *args: runs.append(1) or call(*args))
    ensemble.call(ops.convert_to_tensor(images))
    monkeypatch.undo()
    assert runs == [1]
    loaded = detectors.load(detectors.save(ensemble, tmp_path), world.model)
    np.testing.assert_array_equal(loaded.score(images), scores)
    again = detectors.get("ensemble", **ensemble.get_config())
    assert again.get_config() == ensemble.get_config()


@pytest.mark.parametrize("arguments", [{}, {"nu": 0.3}, {"gamma": 0.05}], ids=str)
def test_one_class_svm(check, world, arguments):
    expected = reference.one_class_svm(
        world.train["features"],
        world.test["features"],
        **{"nu": 0.1, **arguments},
    )
    # The optimum is found up to a tolerance.
    check("one_class_svm", expected, atol=1e-4, **arguments)


def test_a_one_class_svm_tells_far_images_apart(world, data):
    detector = detectors.get("one_class_svm").fit(world.model, data.train)
    far = np.ones((4, world.network.feature_size), np.float32)
    far *= np.array([[50], [100], [200], [400]], np.float32)
    scores = keras.ops.convert_to_numpy(
        detector.score_outputs({"features": ops.convert_to_tensor(far)})
    )
    assert np.all(np.isfinite(scores)) and np.all(np.diff(scores) > 0)


def test_a_one_class_svm_takes_equal_images(world, data):
    images, labels = data.train
    same = np.repeat(images[:1], len(images), axis=0)
    detector = detectors.get("one_class_svm", num_classes=3).fit(
        world.model, (same, labels)
    )
    equal, other = detector.score(np.stack([images[0], data.unknown[0]]))
    assert np.isfinite(equal) and equal < other


def test_learned_confidence_scores_by_its_layers(check, world, data):
    arguments = {"hidden_size": 7, "epochs": 2, "seed": 3}
    detector = detectors.get("learned_confidence", **arguments)
    arrays = detector.fit(world.model, data.train).get_arrays()
    expected = reference.learned_confidence(arrays, world.test["features"])
    check("learned_confidence", expected, **arguments)


def test_learned_confidence_comes_near_the_probability_of_the_true_class(world, data):
    # Wrong labels make a probability that features cannot tell from a right one's
    # alone, but the images of one class share theirs.
    images, labels = data.train
    labels = np.where(labels == 2, 1, labels)
    detector = detectors.get(
        "learned_confidence", num_classes=3, learning_rate=1e-2, hidden_size=32
    )
    detector.fit(world.model, (images, labels))
    targets = [
        reference.softmax(row)[label]
        for row, label in zip(world.train["logits"], labels, strict=True)
    ]
    confidence = 1 / (1 + np.exp(detector.score(images).astype(np.float64)))
    assert np.mean((confidence - targets) ** 2) < 0.05 * np.var(targets)


def draw():
    """A number of each random state that others share."""
    numbers = np.random.uniform(), float(keras.random.uniform(()))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        numbers += (float(tf.random.uniform(())),)
    return numbers


def test_learned_confidence_has_a_random_state_of_its_own(world, data):
    def fit_and_draw(seed):
        keras.utils.set_random_seed(5)
        detector = detectors.get("learned_confidence", epochs=1, seed=seed)
        scores = detector.fit(world.model, data.train).score(data.known)
        return scores, *draw()

    one, again, other = fit_and_draw(0), fit_and_draw(0), fit_and_draw(1)
    np.testing.assert_array_equal(one[0], again[0])
    assert not np.array_equal(one[0], other[0])
    keras.utils.set_random_seed(5)
    assert one[1:] == other[1:] == draw()


def test_nci_of_one_unit_is_that_of_two():
    """The logits [0, z] and [-z / 2, z / 2] have one softmax."""
    random = np.random.default_rng(0)
    images = random.uniform(size=(60, 4, 4, 1)).astype(np.float32)
    hidden = keras.layers.Dense(6, activation="relu")
    scores = []
    for units in (1, 2):
        last = keras.layers.Dense(units)
        model = keras.Sequential(
            [keras.Input((4, 4, 1)), keras.layers.Flatten(), hidden, last]
        )
        if units == 1:
            kernel, bias = last.get_weights()
        else:
            halves = [-0.5, 0.5]
            last.set_weights([kernel * halves, bias * halves])
        detector = detectors.get("nci", num_classes=2).fit(model, images)
        scores.append(detector.score(images))
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-5)
    assert np.std(scores[0]) > 0.01
