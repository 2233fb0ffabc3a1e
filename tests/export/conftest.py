"""One small exported model, and the ways to open it."""

import pytest
from small_export import Exported, Python, Session


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session", params=[Session, Python])
def run(request, exported):
    """`run(signature, **inputs)` of the exported model, in both loaders."""
    return request.param(exported.path)
