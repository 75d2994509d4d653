"""Should you fine-tune all of a model's weights, or only a few? Measured on your model, data and machine."""

from tuneoff.api import Results, examples, load, plan, run
from tuneoff.version import __version__

__all__ = ["Results", "__version__", "examples", "load", "plan", "run"]
