"""Settings and fixtures that every test shares."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest


@pytest.fixture(scope="session")
def real_data_dir():
    """The folder of real data sets; skips the test, saying why, without it."""
    root = pathlib.Path(__file__).resolve().parents[1]
    default = root.parent / "shared" / "data"
    folder = pathlib.Path(os.environ.get("OOD_KERAS_DATA_DIR", default))
    if not (folder / "mnist").is_dir():
        pytest.skip(
            f"no real data in {folder}: set OOD_KERAS_DATA_DIR to a folder with mnist/"
        )
    return folder
