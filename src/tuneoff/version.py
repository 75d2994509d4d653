"""The version, by itself: whoever needs it need not import the API."""

__version__ = "0.1.0"
