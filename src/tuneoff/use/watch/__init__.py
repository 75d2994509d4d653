"""`tuneoff watch`: a run in progress, on a page of this machine."""

from tuneoff.use.watch.app import watch_server

__all__ = ["watch_server"]
