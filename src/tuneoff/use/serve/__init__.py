"""`tuneoff serve`: a run's arms side by side, on a page and as an API, on this machine alone."""

from tuneoff.use.local.server import listen
from tuneoff.use.serve.arms import choose_arms
from tuneoff.use.serve.messages import Limits
from tuneoff.use.serve.server import load_server

__all__ = ["Limits", "choose_arms", "listen", "load_server"]
