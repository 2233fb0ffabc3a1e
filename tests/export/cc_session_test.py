"""The exported model in C++, through the loader that TensorFlow Serving is built on."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import export

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_cpp_decides_as_python_does(exported, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cc_session

    if cc_session.missing():
        pytest.skip(cc_session.missing())
    program = cc_session.build(tmp_path)
    images = exported.images.copy()
    images[3, 0, 0], images[7, 5, 5] = np.nan, 2
    contents = [tf.io.encode_png(pixels).numpy() for pixels in exported.pixels[:4]]
    contents += [b"", b"junk", contents[0][:-9]]
    files = [tmp_path / f"{row}.png" for row in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    seen, trials = cc_session.run(program, exported.path, images, files, batch_size=16)
    assert trials == ("refused", "refused", "0 answers")
    predictor = export.load(exported.path)
    answers = predictor.predict(images), predictor.predict_bytes(contents)
    for name, values in seen.items():
        expected = np.concatenate([answer[name] for answer in answers])
        if name == "ood_score":
            np.testing.assert_allclose(values, expected, rtol=1e-5)
        else:
            np.testing.assert_array_equal(values, expected)
    assert not seen["valid"][[3, 7, -1, -2, -3]].any()
