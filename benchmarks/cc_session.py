"""Runs an exported model in C++, in the loader that TensorFlow Serving is built on."""

import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

_SOURCE = pathlib.Path(__file__).with_name("cc_session.cc")


def missing():
    """What it takes to build the program and is not here, or `None`."""
    import tensorflow as tf

    if _compiler() is None:
        return "no C++ compiler (g++ or clang++)"
    if not pathlib.Path(tf.sysconfig.get_lib(), "libtensorflow_cc.so.2").exists():
        return "this TensorFlow comes without its C++ library"
    return None


def build(folder):
    """Compiles the program into `folder`; returns its path. Takes half a minute."""
    import tensorflow as tf

    path, libraries = pathlib.Path(folder) / "cc_session", tf.sysconfig.get_lib()
    command = [
        *(_compiler(), "-w", "-O0", *tf.sysconfig.get_compile_flags()),
        *("-include", "cstring", _SOURCE),
        # Without the flag the linker drops the library that registers the sessions.
        *("-o", path, f"-L{libraries}", "-Wl,--no-as-needed"),
        *("-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"),
        f"-Wl,-rpath,{libraries}",
    ]
    subprocess.run(command, check=True)
    return path


def run(program, model, images, files=(), batch_size=256):
    """What the model answers to images and image files.

    Args:
        program: From `build`.
        model: The version folder of an exported model.
        images: Float32 array `(num_images, height, width, channels)`.
        files: Paths of image files, for `predict_bytes`.
        batch_size: Images per run.

    Returns:
        `(answers, trials)`. `answers`: a dict of arrays with a row for each image, then
        for each file: `class_id`, `accepted`, `valid`, `ood_score`, `label`. `trials`:
        what became of wrongly shaped images, of bytes and of an empty batch.
    """
    with tempfile.TemporaryDirectory() as folder:
        pixels = pathlib.Path(folder) / "images"
        pixels.write_bytes(np.ascontiguousarray(images, np.float32).tobytes())
        arguments = [program, model, pixels, *images.shape, batch_size, *files]
        done = subprocess.run(
            [str(argument) for argument in arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the C++ program failed on {model}:\n{done.stderr[-2000:]}")
    *lines, tall, integers, empty = done.stdout.splitlines()
    columns = list(zip(*(line.split(" ", 4) for line in lines), strict=True))
    types = {
        "class_id": np.int32,
        "accepted": np.int32,
        "valid": np.int32,
        "ood_score": np.float32,
        "label": object,
    }
    answers = {
        name: np.array(column, object).astype(dtype)
        for (name, dtype), column in zip(types.items(), columns, strict=True)
    }
    for name in ("accepted", "valid"):
        answers[name] = answers[name].astype(bool)
    return answers, (tall, integers, empty)


def _compiler():
    return shutil.which("g++") or shutil.which("clang++")
