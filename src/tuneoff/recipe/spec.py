"""What all parts of a recipe have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(min_length=1)]


class Spec(BaseModel):
    """A part of a recipe: frozen, and without room for typos."""

    model_config = ConfigDict(frozen=True, extra="forbid")
