"""One small exported model, and the ways to open it."""

import numpy as np
import pytest
from brightness import idx
from disturbing import NUM_IMAGES
from small_export import Exported, Python, Session

from ood_keras import export
from ood_keras.inference import batch_scoring


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session", params=[Session, Python])
def run(request, exported):
    """`run(signature, **inputs)` of the exported model, in both loaders."""
    return request.param(exported.path)


@pytest.fixture(scope="session")
def small_tflite(exported, tmp_path_factory):
    """A TFLite file, since processes open it in a moment."""
    folder = tmp_path_factory.mktemp("edge") / "edge"
    export.tflite(
        exported.path, folder, formats=["float32"], known_images=exported.images
    )
    return folder / "float32" / "model.tflite"


@pytest.fixture(scope="session")
def many_pictures(exported, tmp_path_factory):
    """An IDX file of as many images as a kill needs to fall among."""
    pixels = np.random.default_rng(0).integers(
        0, 256, (NUM_IMAGES, *exported.pixels.shape[1:3]), np.uint8
    )
    path = tmp_path_factory.mktemp("pictures") / "many.idx"
    path.write_bytes(idx(pixels))
    return path


@pytest.fixture(scope="session")
def undisturbed(small_tflite, many_pictures, tmp_path_factory):
    """The answers of one process that nobody disturbs, `{column: values}`."""
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path_factory.mktemp("undisturbed") / "answers.parquet"
    batch_scoring.score_to_file(export.load(small_tflite), [many_pictures], path)
    return parquet.read_table(path).to_pydict()
