"""These tests call the package as users do: without the hook that checks shape annotations.

With the hook on, its own error would come before that of the door. So pytest leaves this folder out then, and
`make test`, `make slow` and CI run it by a second command:

    python -m pytest -o addopts= tests/as_users
"""

import pytest


def pytest_ignore_collect(collection_path, config):
    return True if config.getoption("--jaxtyping-packages") else None


@pytest.fixture(autouse=True)
def no_hook():
    import regimes.conventions

    assert not hasattr(regimes.conventions.function_norm, "__wrapped__"), "the hook of shape annotations is on"
