import pytest

from tuneoff.signature import signature


def test_fields_stand_in_order() -> None:
    assert signature({"metric": "rouge", "n": 500, "lr": 0.1}) == "metric:rouge|n:500|lr:0.1"


def test_a_value_that_would_break_it_is_refused() -> None:
    with pytest.raises(ValueError, match="'\\|'"):
        signature({"a": "b|c"})
