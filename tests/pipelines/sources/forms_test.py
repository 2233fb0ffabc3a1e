"""The same source in another form: `mnist@negative`, `omniglot@as_distributed@area`."""

import zipfile

import numpy as np
import pytest
from PIL import Image

from ood_keras import pipelines
from ood_keras.pipelines.sources import registry
from ood_keras.pipelines.sources.licences import licence
from ood_keras.pipelines.sources.loading import check_spec
from ood_keras.pipelines.sources.spec import Spec, parse

RANDOM = np.random.default_rng(0)
# Higher than wide, so that exchanged axes show.
IMAGES = RANDOM.integers(0, 256, (40, 7, 5, 1), np.uint8)


@pytest.fixture
def data_dir(tmp_path, write_idx):
    write_idx(tmp_path / "notmnist", "t10k", IMAGES, np.arange(40) % 10)
    return tmp_path


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))


def transpose(images):
    return np.array([[column for column in image.swapaxes(0, 1)] for image in images])


@pytest.mark.parametrize(
    ("forms", "expected"),
    [
        ("@negative", 255 - IMAGES),
        ("@transposed", transpose(IMAGES)),
        ("@negative@transposed", 255 - transpose(IMAGES)),
        ("@transposed@negative", 255 - transpose(IMAGES)),
    ],
)
def test_any_source_has_the_general_forms(data_dir, forms, expected):
    source = pipelines.load(f"notmnist{forms}", data_dir=data_dir)
    assert source.name == source.test.source == f"notmnist{forms}"
    np.testing.assert_array_equal(source.test.images, expected)
    plain = pipelines.load("notmnist", data_dir=data_dir)
    assert source.class_names == plain.class_names and source.roles == plain.roles
    np.testing.assert_array_equal(source.test.labels, plain.test.labels)
    np.testing.assert_array_equal(source.whole_test().images, expected)


def test_classes_are_chosen_behind_a_form(data_dir):
    chosen = pipelines.load("notmnist@negative[C,A]", data_dir=data_dir).test
    assert chosen.source == "notmnist@negative[C,A]"
    assert chosen.class_names == ("C", "A")
    rows = np.flatnonzero(np.isin(np.arange(40) % 10, [2, 0]))
    np.testing.assert_array_equal(chosen.images, 255 - IMAGES[rows])


def test_a_shape_is_that_of_the_form(data_dir):
    """`image_shape` is what comes out, whichever way the images were turned."""
    upright = pipelines.load("notmnist", data_dir=data_dir, image_shape=(5, 14, 1))
    source = pipelines.load(
        "notmnist@transposed", data_dir=data_dir, image_shape=(14, 5, 1)
    )
    np.testing.assert_array_equal(source.test.images, transpose(upright.test.images))


def test_every_split_of_a_source_without_parts_is_in_the_form():
    plain, negative = pipelines.load("digits"), pipelines.load("digits@negative")
    for split, other in (
        *((plain.split(role), negative.split(role)) for role in plain.roles),
        (plain.whole_test(), negative.whole_test()),
    ):
        np.testing.assert_array_equal(255 - split.images, other.images)
        assert other.namespace == "digit"


def test_a_form_has_the_classes_of_its_source():
    known = pipelines.load("digits").train
    other = pipelines.load("digits@negative").test
    with pytest.raises(ValueError, match="both known and unknown"):
        pipelines.check_roles({"train": known}, {"test": [other]})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digits@negativ", r"digits has no form 'negativ'.*@negative \(.*@transposed"),
        ("omniglot@black", "@as_distributed .*@area .*@nearest .*@negative"),
        ("digits@area", "no form 'area'"),
        ("digits@", "no form ''"),
        ("digits@negative@@transposed", "no form ''"),
        ("digits@negative@negative", "each form once"),
        ("digits[0-4]@negative", r"unknown data source.*mnist@negative\[0-4\]"),
        ("digts@negative", "unknown data source 'digts@negative'.*mean digits"),
        ("tfds:mnist@area", "no form 'area'"),
        ("synthetic@negative", "synthetic has no form 'negative'. It has no forms"),
        ("@negative", "unknown data source"),
    ],
)
def test_unknown_forms_are_explained(spec, message):
    for call in (pipelines.load, check_spec, pipelines.forms):
        with pytest.raises(ValueError, match=message):
            call(spec)


def test_two_filters_at_once_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"one filter.*area and nearest"):
        pipelines.load("omniglot@area@nearest", data_dir=tmp_path)


def test_forms_lists_those_of_a_source():
    assert set(pipelines.forms("folder:PATH")) == {"negative", "transposed"}
    assert "gaussian" not in pipelines.forms("uniform_noise")
    assert set(pipelines.forms("gaussian_noise")) == {
        *("mean_0", "std_0.5", "negative", "transposed")
    }
    assert pipelines.forms("synthetic") == {}


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("mnist", Spec("mnist")),
        (" mnist[0-4] ", Spec("mnist", (), "0-4")),
        ("omniglot@a@b[c/d]", Spec("omniglot", ("a", "b"), "c/d")),
        ("tfds:mnist:3.0.1@negative", Spec("tfds:mnist:3.0.1", ("negative",))),
        ("folder:x@negative[a]", Spec("folder:x", ("negative",), "a")),
        ("folder:x@transposed@negative", Spec("folder:x", ("transposed", "negative"))),
        ("folder:me@home", Spec("folder:me@home")),
        ("folder:me@negative@home", Spec("folder:me@negative@home")),
        ("folder:me@home/x@negative", Spec("folder:me@home/x", ("negative",))),
        ("", Spec("")),
    ],
)
def test_a_spec_is_taken_apart(spec, parts):
    assert parse(spec) == parts


def test_a_path_may_hold_an_at_sign(tmp_path, png):
    """What exists is the path as it stands, even where its end is a form's name."""
    for name, level in (("me@home", 10), ("in@negative", 20), ("in", 30)):
        (tmp_path / name).mkdir()
        for number in range(5):
            image = np.full((4, 4, 1), level, np.uint8)
            image[0, number % 4] += 1 + number
            (tmp_path / name / f"{number}.png").write_bytes(png(image))

    def lightest(spec):
        return int(
            pipelines.load(f"folder:{tmp_path}/{spec}").whole_test().images[-1].min()
        )

    assert lightest("me@home") == 10
    assert lightest("me@home@negative") == 255 - 10 - 5
    assert lightest("in@negative") == 20
    assert lightest("in@negative@negative") == 255 - 20 - 5
    assert lightest("in@transposed") == 30


@pytest.mark.usefixtures("own_registry")
def test_what_opens_a_source_heeds_its_own_forms():
    requests = []

    @pipelines.register(is_made=True, forms={"dim": "half as bright"})
    def lamps(request):
        requests.append(request)
        level = 50 if "dim" in request.forms else 100
        return pipelines.from_generator(
            request, (4, 4, 1), lambda _, shape, role: np.full(shape, level, np.uint8)
        )

    for spec, level in (("lamps", 100), ("lamps@dim", 50), ("lamps@negative@dim", 205)):
        split = pipelines.load(spec, count=3).test
        assert (split.source, split.images.max()) == (spec, level)
    assert [request.forms for request in requests] == [(), ("dim",), ("dim",)]
    assert {request.spec for request in requests} == {"lamps"}
    assert pipelines.forms("lamps")["dim"] == "half as bright"


@pytest.mark.usefixtures("own_registry")
@pytest.mark.parametrize("form", ["negative", "Dim", "a@b", "a[0]", "a,b", "", "a b"])
def test_forms_that_cannot_stand_in_a_spec_are_refused(form):
    with pytest.raises(ValueError, match="a form is called by small letters"):
        pipelines.register(name="x", forms={form: "?"})(lambda request: None)


def test_a_licence_is_that_of_the_source():
    assert licence("fashion_mnist@negative[0-4]").startswith("MIT")
    assert licence("dig_mnist").startswith("unknown")


def draw(strokes):
    image = np.full((105, 105, 1), 255, np.uint8)
    image[20:strokes, 30:36] = 0
    return image


@pytest.fixture
def drawings(tmp_path, png):
    """Two drawings, black on white, in a zip file as Omniglot's."""
    images = [draw(90), draw(70)]
    path = tmp_path / "omniglot" / "images_evaluation.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"Greek/character01/{number}.png", png(image))
    return np.array(images)


@pytest.mark.parametrize(
    ("form", "resampling"),
    [
        ("", Image.Resampling.BILINEAR),
        ("@area", Image.Resampling.BOX),
        ("@nearest", Image.Resampling.NEAREST),
    ],
)
@pytest.mark.parametrize("distributed", [True, False])
def test_omniglot_has_two_readings_and_three_filters(
    tmp_path, drawings, form, resampling, distributed
):
    spec = f"omniglot{'@as_distributed' if distributed else ''}{form}"
    images = pipelines.load(spec, data_dir=tmp_path).test.images
    expected = [
        np.asarray(
            Image.fromarray((image if distributed else 255 - image)[..., 0]).resize(
                (28, 28), resampling
            )
        )
        for image in drawings
    ]
    np.testing.assert_array_equal(images[..., 0], expected)
    assert (np.median(images) > 200) == distributed


@pytest.mark.parametrize(
    ("forms", "mean", "std"),
    [
        ("", 0.5, 1),
        ("@std_0.5", 0.5, 0.5),
        ("@mean_0", 0, 1),
        ("@mean_0@std_0.5", 0, 0.5),
    ],
)
def test_gaussian_noise_has_the_laws_of_the_field(forms, mean, std):
    from scipy import stats

    law = stats.norm(mean, std)
    pixels = pipelines.load(f"gaussian_noise{forms}", count=500).test.images / 255
    # Rounding adds half a level to what is clipped.
    assert abs((pixels == 0).mean() - law.cdf(0.5 / 255)) < 0.004
    assert abs((pixels == 1).mean() - law.sf(1 - 0.5 / 255)) < 0.004
    inside = ((pixels > 0.25) & (pixels < 0.75)).mean()
    assert abs(inside - (law.cdf(0.75) - law.cdf(0.25))) < 0.004


@pytest.mark.parametrize("name", ["kannada_mnist", "dig_mnist"])
def test_kannada_digits_are_no_latin_ones(tmp_path, write_idx, name):
    write_idx(tmp_path / name, "t10k", IMAGES, np.arange(40) % 10)
    source = pipelines.load(name, data_dir=tmp_path)
    assert source.roles == ("test",)
    np.testing.assert_array_equal(source.test.images, IMAGES)
    assert "Kannada 3" in source.class_names
    digits = pipelines.load("digits")
    assert set(source.test.class_identities).isdisjoint(digits.test.class_identities)
    with pytest.raises(pipelines.DataNotFoundError, match=f"DATA_DIR/{name}"):
        pipelines.load(name, data_dir=tmp_path / "nowhere")


def test_the_two_kannada_sets_have_the_same_classes(tmp_path, write_idx):
    for name, images in (("kannada_mnist", IMAGES), ("dig_mnist", IMAGES // 2)):
        write_idx(tmp_path / name, "t10k", images, np.arange(40) % 10)
    known, other = (
        pipelines.load(name, data_dir=tmp_path).test
        for name in ("kannada_mnist", "dig_mnist")
    )
    with pytest.raises(ValueError, match="both known and unknown"):
        pipelines.check_roles({"test": known}, {"test": [other]})
