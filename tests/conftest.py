"""Settings and fixtures that every test shares."""

import importlib.util
import os
import pathlib
import sys
import types

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


@pytest.fixture(scope="module")
def compared_in_this_process():
    """Exports are compared by the same code without a process of its own.

    That process spends most of its time on importing TensorFlow. For tests that export
    many models and are about something else; `exported` is compared in a fresh one.
    """
    from ood_keras.export import parity

    modules = {name: sys.modules[name] for name in ("keras", "ood_keras")}
    spec = importlib.util.spec_from_file_location("compared_here", parity._SCRIPT)
    script = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(script)
    finally:
        sys.modules.update(modules)

    def run(command, **_):
        script.main(*command[-3:])
        return types.SimpleNamespace(returncode=0, stderr="")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "subprocess", types.SimpleNamespace(run=run))
        yield
