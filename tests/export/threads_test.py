"""One predictor, many threads: every image gets its own answer."""

import concurrent.futures
import io
import itertools
import sys
import threading

import numpy as np
import pytest
from PIL import Image

from ood_keras import export
from ood_keras.inference import tflite_predictor

NUM_THREADS = 8
KINDS = ("saved_model", "float32", "int8", "onnx")


@pytest.fixture(scope="module")
def folders(exported, tmp_path_factory):
    """The same model in every form."""
    folder = tmp_path_factory.mktemp("forms")
    options = {"known_images": exported.images}
    export.tflite(
        exported.path, folder / "tflite", formats=["float32", "int8"], **options
    )
    export.onnx(exported.path, folder / "onnx", **options)
    return {
        "saved_model": exported.path,
        "float32": folder / "tflite" / "float32",
        "int8": folder / "tflite" / "int8",
        "onnx": folder / "onnx",
    }


@pytest.fixture(params=KINDS)
def predictor(request, folders):
    """A new one, so that its first calls are those of the threads."""
    return export.load(folders[request.param])


@pytest.fixture(autouse=True)
def _impatient():
    """Threads take turns a thousand times as often as they would."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(function, arguments):
    """`function` of each argument, from threads that begin together."""
    start = threading.Barrier(NUM_THREADS, timeout=60)

    def work(number):
        start.wait()
        return [
            (place, function(arguments[place]))
            for place in range(number, len(arguments), NUM_THREADS)
        ]

    with concurrent.futures.ThreadPoolExecutor(NUM_THREADS) as pool:
        parts = pool.map(work, range(NUM_THREADS))
        found = dict(itertools.chain.from_iterable(parts))
    return [found[place] for place in range(len(arguments))]


def png(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1)).save(content, "PNG")
    return content.getvalue()


def check(answers, right):
    """Each answer is the row of its own image, and of no other."""
    for row, answer in enumerate(answers):
        assert set(answer) == set(right)
        # Batches of another size may round the last digit otherwise.
        for name in ("ood_score", "probabilities"):
            np.testing.assert_allclose(
                answer[name][0], right[name][row], rtol=1e-4, atol=1e-5
            )
        for name in ("label", "class_id", "accepted", "valid"):
            assert answer[name][0] == right[name][row]


def many(rows):
    """Places of images, often and in no order."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(rows), 12))


def alone(predict, count):
    """What one thread gets for one image after another."""
    answers = [predict(slice(row, row + 1)) for row in range(count)]
    return {
        name: np.concatenate([answer[name] for answer in answers])
        for name in answers[0]
    }


def test_images_get_their_own_answers(predictor, exported):
    images = exported.images
    places = many(len(images))
    answers = at_once(lambda row: predictor.predict(images[row : row + 1]), places)
    right = alone(lambda rows: predictor.predict(images[rows]), len(images))
    assert len(np.unique(right["ood_score"])) > 0.9 * len(images)
    check(answers, {name: values[places] for name, values in right.items()})


def test_files_get_their_own_answers(predictor, exported):
    contents = [png(pixels) for pixels in exported.pixels]
    contents[::7] = [b"junk"] * len(contents[::7])
    places = many(len(contents))
    answers = at_once(lambda row: predictor.predict_bytes([contents[row]]), places)
    right = alone(lambda rows: predictor.predict_bytes(contents[rows]), len(contents))
    assert right["valid"].sum() == len(contents) - len(contents[::7])
    check(answers, {name: values[places] for name, values in right.items()})


def test_thresholds_stay_with_their_calls(predictor, exported):
    limits = [-np.inf, np.inf, predictor.threshold]

    def accepted(number):
        answer = predictor.predict(exported.images[:5], threshold=limits[number % 3])
        return answer["accepted"]

    expected = [accepted(number) for number in range(3)]
    found = at_once(accepted, range(10 * NUM_THREADS))
    for number, answer in enumerate(found):
        np.testing.assert_array_equal(answer, expected[number % 3])


def test_folders_of_images_are_scored_side_by_side(predictor, exported, tmp_path):
    for number, pixels in enumerate(exported.pixels[:20]):
        (tmp_path / f"{number:02d}.png").write_bytes(png(pixels))
    right = list(export.score(predictor, [str(tmp_path)]))
    found = at_once(
        lambda _: list(export.score(predictor, [str(tmp_path)])), range(NUM_THREADS)
    )
    for rows in found:
        assert [row["path"] for row in rows] == [row["path"] for row in right]
        assert [row["label"] for row in rows] == [row["label"] for row in right]


def test_interpreters_are_not_more_than_cores(folders, monkeypatch):
    monkeypatch.setattr(tflite_predictor.machine, "num_cores", lambda: 3)
    now, most, made = 0, 0, []
    lock = threading.Lock()
    make = tflite_predictor.runner

    def counted(content, num_threads):
        run = make(content, num_threads)
        made.append(run)

        def slow(image):
            nonlocal now, most
            with lock:
                now, most = now + 1, max(most, now + 1)
            try:
                return run(image=image)
            finally:
                with lock:
                    now -= 1

        return slow

    monkeypatch.setattr(tflite_predictor, "runner", counted)
    content = (folders["float32"] / "model.tflite").read_bytes()
    run = tflite_predictor.Runners(content)
    run._idle.clear()  # The first is made in the constructor, and not counted.
    image = np.zeros((1, 12, 10, 1), np.float32)
    at_once(lambda _: run(image), range(40 * NUM_THREADS))
    assert 1 <= most <= len(made) <= 3


def test_errors_use_up_no_interpreter(folders, exported):
    predictor = export.TFLitePredictor(folders["float32"])
    right = predictor.predict(exported.images)
    for _ in range(20):
        with pytest.raises((RuntimeError, ValueError)):
            predictor._run(image=np.zeros((1, 12, 10, 7), np.float32))
    np.testing.assert_array_equal(
        predictor.predict(exported.images)["ood_score"], right["ood_score"]
    )


def test_models_are_opened_side_by_side(folders):
    found = at_once(
        lambda kind: export.load(folders[kind]).class_names, [*KINDS, *KINDS]
    )
    assert set(found) == {("zero", "eins", "δύο")}
