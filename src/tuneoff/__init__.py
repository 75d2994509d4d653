"""tuneoff: should you fine-tune all of a model's weights, or only a few?"""

__version__ = "0.1.0"
