"""Data sources of one's own, by name."""

import numpy as np
import pytest

from ood_keras import pipelines
from ood_keras.pipelines.sources import registry
from ood_keras.pipelines.sources.licences import licence
from ood_keras.pipelines.sources.loading import check_spec


@pytest.fixture(autouse=True)
def sources(monkeypatch):
    monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))


def ramps(request):
    """As many ramps as the request says, and which request it was."""
    REQUESTS.append(request)

    def generate(random, shape, role):
        return np.broadcast_to(np.arange(shape[2], dtype=np.uint8)[:, None], shape)

    return pipelines.from_generator(request, (9, 8, 1), generate)


REQUESTS = []


def classes(request):
    """Two classes, from one part that is dealt out."""

    def read():
        labels = np.arange(20) % 2
        return np.repeat(labels.astype(np.uint8) * 9, 16).reshape(20, 4, 4, 1), labels

    return pipelines.from_parts(request, ["dark", "bright"], {"all": read})


def test_a_name_alone_opens_it():
    assert pipelines.register(classes) is classes
    pipelines.register(classes)  # Again, as where a module is reloaded.
    assert "classes" in pipelines.names()
    source = pipelines.load("classes[bright,dark]", image_shape=(8, 8, 3))
    assert source.name == "classes[bright,dark]"
    assert [len(source.split(role)) for role in source.roles] == [12, 4, 4]
    for image, label in zip(source.test.images, source.test.labels, strict=True):
        assert image.shape == (8, 8, 3)
        assert (image == (0 if label else 9)).all()
    assert "not recorded" in licence("classes")


def test_what_follows_the_colon_is_the_argument():
    pipelines.register(name="my/ramps", argument="STEPS", licence="free")(ramps)
    assert "my/ramps:STEPS" in pipelines.names()
    source = pipelines.load("my/ramps:3", seed=5)
    assert (REQUESTS[-1].argument, REQUESTS[-1].seed) == ("3", 5)
    assert source.train.images.shape == (10_000, 9, 8, 1)
    assert (source.train.labels == -1).all()
    assert licence("my/ramps:3") == "free"
    for wrong in ("my/ramps", "my/ramps:", "my/ramp:3"):
        with pytest.raises(ValueError, match=r"unknown data source.*my/ramps:STEPS"):
            pipelines.load(wrong)


def test_only_what_is_made_takes_a_count():
    pipelines.register(name="read")(ramps)
    with pytest.raises(ValueError, match=r"sources that are made: .*count=7 for read"):
        pipelines.load("read", count=7)
    pipelines.register(name="made", is_made=True)(ramps)
    assert len(pipelines.load("made", count=7).test) == 7
    with pytest.raises(ValueError, match=r"gaussian_noise, made, synthetic"):
        pipelines.load("digits", count=7)


def test_brackets_at_the_end_of_a_path_belong_to_it(tmp_path):
    pipelines.register(name="pictures", argument="PATH")(ramps)
    folder = tmp_path / "some[1]"
    folder.mkdir()
    pipelines.load(f"pictures:{folder}")
    assert REQUESTS[-1].argument == str(folder)


def test_a_spec_is_checked_without_its_data():
    check_spec("mnist[0-4]")
    check_spec("folder:nowhere")
    with pytest.raises(ValueError, match=r"'mnits'.*mean mnist.*--plugin=MODULE"):
        check_spec("mnits")


@pytest.mark.parametrize("name", ["a:b", "a[1]", "a,b", "", " a", "/a", "a//b", 3])
def test_names_that_cannot_begin_a_spec_are_refused(name):
    with pytest.raises(ValueError, match="the name of a data source"):
        pipelines.register(name=name)(ramps)


@pytest.mark.parametrize("argument", ["path", "", "A:B", 3])
def test_an_argument_is_in_capitals(argument):
    with pytest.raises(ValueError, match=r"in capitals.*PATH"):
        pipelines.register(name="x", argument=argument)(ramps)


@pytest.mark.parametrize("opener", ["ramps", len, lambda: None, lambda a, b: None])
def test_what_opens_no_source_is_refused(opener):
    with pytest.raises(TypeError, match=r"function of one `pipelines\.Request`"):
        pipelines.register(opener)


def test_a_name_belongs_to_one_source():
    with pytest.raises(ValueError, match=r"data source 'mnist' is ood_keras.* already"):
        pipelines.register(name="mnist")(ramps)


def test_what_opens_something_else_is_explained():
    pipelines.register(name="nothing")(lambda request: None)
    with pytest.raises(TypeError, match=r"'nothing' must return .*Received: None"):
        pipelines.load("nothing")
