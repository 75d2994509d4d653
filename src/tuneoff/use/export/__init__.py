"""A finished arm → a folder that its own library loads: adapter, merged, CTranslate2 or ONNX."""

from tuneoff.use.export.exporting import export

__all__ = ["export"]
