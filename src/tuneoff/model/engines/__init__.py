"""Engines: how a model computes its loss and writes text. One file a member, fastest first in `choice.ENGINES`."""

from tuneoff.model.engines.choice import ENGINES, choose_engines, engine_for
from tuneoff.model.engines.engine import Engine

__all__ = ["ENGINES", "Engine", "choose_engines", "engine_for"]
