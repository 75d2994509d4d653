from tests.model.engines.conftest import way

__all__ = ["way"]
