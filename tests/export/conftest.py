"""One small exported model, the ways to open it, and a cheaper way to compare one."""

import importlib.util
import sys
import types

import pytest
from small_export import Exported, Python, Session

from ood_keras.export import parity


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session", params=[Session, Python])
def run(request, exported):
    """`run(signature, **inputs)` of the exported model, in both loaders."""
    return request.param(exported.path)


@pytest.fixture(scope="module")
def compared_in_this_process():
    """Exports are compared by the same code without a process of its own.

    That process spends most of its time on importing TensorFlow. For tests that export
    many models and are about something else; `exported` is compared in a fresh one.
    """
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
