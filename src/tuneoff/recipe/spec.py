"""What all parts of a recipe have in common."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


def _finite(value: Any) -> Any:
    """The same value. Raises ValueError where a number in it is infinite or not a number: JSON has no such numbers."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("input should be a finite number")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        try:
            _finite(inner)
        except ValueError:
            raise ValueError("every number in it should be finite") from None
    return value


# A value whose type a library knows and the recipe does not: a setting of a method, or a part of a model's config.
Setting = Annotated[Any, AfterValidator(_finite)]


class Spec(BaseModel):
    """A part of a recipe: frozen, without room for typos, and with finite numbers alone."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
