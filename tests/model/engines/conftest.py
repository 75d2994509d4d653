"""With the kernels in C++, and without."""

from __future__ import annotations

import pytest

from tuneoff.model.kernels import operations


@pytest.fixture(params=["native", "plain"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "plain":
        monkeypatch.setattr(operations, "native", lambda: None)
    elif operations.native() is None:
        pytest.skip("no C++ compiler")
    return str(request.param)
