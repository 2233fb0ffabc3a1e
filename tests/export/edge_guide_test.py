"""What docs/guides/edge.md shows in Python is done as it says."""

import pathlib
import re
import shutil

import PIL.Image

from ood_keras.inference import shipped_models
from ood_keras.inference.manifest import read

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs/guides/edge.md"


def test_the_examples_of_the_page(exported, tmp_path, monkeypatch):
    # In the place of the shipped model, whose classes and images are others.
    monkeypatch.setattr(shipped_models, "shipped", {"mnist": exported.path}.get)
    PIL.Image.fromarray(exported.pixels[0, ..., 0]).save(tmp_path / "seven.png")
    monkeypatch.chdir(tmp_path)
    names = {
        "images": exported.images,
        "known_validation": exported.images,
        "pathlib": pathlib,
        "pixels": exported.pixels[:1],
        "unknown_validation": 1 - exported.images,
    }
    for example in re.findall(
        r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL
    ):
        file = tmp_path / "edge/mnist/int8/model.tflite"
        if file.is_file():
            shutil.copy(file, tmp_path)
        exec(compile(example, PAGE.name, "exec"), names)
    for folder in ("edge/mnist/int8", "edge/mnist_onnx"):
        assert read(tmp_path / folder)["class_names"] == exported.class_names
    assert names["predictor"].predict(exported.images)["label"].shape == (50,)
