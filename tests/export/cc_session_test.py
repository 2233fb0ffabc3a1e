"""The exported model in C++, through the loader that TensorFlow Serving is built on."""

import pathlib
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from ood_keras import export


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("clang++")
    libraries = tf.sysconfig.get_lib()
    missing = not pathlib.Path(libraries, "libtensorflow_cc.so.2").exists()
    if compiler is None or missing:
        pytest.skip("needs a C++ compiler and TensorFlow's C++ library")
    path = tmp_path_factory.mktemp("cc") / "cc_session"
    command = [
        *(compiler, "-w", "-O0", *tf.sysconfig.get_compile_flags()),
        *("-include", "cstring", pathlib.Path(__file__).with_name("cc_session.cc")),
        # Without the flag the linker drops the library that registers the sessions.
        *("-o", path, f"-L{libraries}", "-Wl,--no-as-needed"),
        *("-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"),
        f"-Wl,-rpath,{libraries}",
    ]
    subprocess.run(command, check=True)
    return path


@pytest.mark.slow
def test_cpp_decides_as_python_does(program, exported, tmp_path):
    images = exported.images.copy()
    images[3, 0, 0], images[7, 5, 5] = np.nan, 2
    (tmp_path / "images").write_bytes(images.tobytes())
    contents = [tf.io.encode_png(pixels).numpy() for pixels in exported.pixels[:4]]
    contents += [b"", b"junk", contents[0][:-9]]
    files = [tmp_path / f"{row}.png" for row in range(len(contents))]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    result = subprocess.run(
        [program, exported.path, tmp_path / "images", *map(str, images.shape), *files],
        capture_output=True,
        text=True,
        check=True,
    )
    *rows, tall, integers, empty = result.stdout.splitlines()
    assert (tall, integers, empty) == ("refused", "refused", "0 answers")
    predictor = export.load(exported.path)
    answers = predictor.predict(images), predictor.predict_bytes(contents)
    expected = {
        name: np.concatenate([answer[name] for answer in answers])
        for name in answers[0]
    }
    assert len(rows) == len(images) + len(contents)
    for row, line in enumerate(rows):
        class_id, accepted, valid, score, label = line.split(" ", 4)
        assert int(class_id) == expected["class_id"][row]
        assert int(accepted) == expected["accepted"][row]
        assert int(valid) == expected["valid"][row]
        assert label == expected["label"][row]
        np.testing.assert_allclose(float(score), expected["ood_score"][row], rtol=1e-5)
    assert not expected["valid"][[3, 7, -1, -2, -3]].any()
