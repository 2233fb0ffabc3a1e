"""Settings and fixtures that every test shares."""

import contextlib
import importlib.util
import os
import pathlib
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

BACKEND = os.environ.get("KERAS_BACKEND", "tensorflow")


def pytest_collection_modifyitems(items):
    """Leaves out what the backend that Keras runs on cannot."""
    reasons = {}
    if BACKEND != "tensorflow":
        reasons["tensorflow"] = f"of TensorFlow itself, and Keras runs on {BACKEND}"
    if BACKEND == "jax" and not os.environ.get("JAX_ENABLE_X64"):
        reasons["float64"] = "JAX has float64 only with JAX_ENABLE_X64=1"
    if BACKEND == "torch":
        reasons["float64"] = "Keras on torch computes means and norms in float32"
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Skips what says that it needs float64, with what it says."""
    report = yield
    error = call.excinfo
    if BACKEND == "jax" and error and "jax_enable_x64" in str(error.value):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1], str(error.value))
    return report


if BACKEND == "torch":
    import torch

    _array = torch.Tensor.__array__

    def _array_for_tests(tensor, dtype=None, copy=None):
        """Lets tests read tensors as they read those of TensorFlow and JAX.

        Torch wants `detach` where there is a gradient, and `cpu` on a GPU; for the
        package itself, it stays so strict.
        """
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.partition(".")[0] not in ("ood_keras", "keras"):
            tensor = tensor.detach().cpu()
        return _array(tensor, dtype)

    torch.Tensor.__array__ = _array_for_tests


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

    def compare(folder, expected, report):
        script.main(str(folder), expected, report)  # As the process gets it.

    here = contextlib.nullcontext(types.SimpleNamespace(compare=compare))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "FreshProcess", lambda: here)
        yield
