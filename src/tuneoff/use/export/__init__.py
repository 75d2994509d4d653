"""A finished arm → a folder that its own library loads: adapter, merged, CTranslate2, ONNX or GGUF."""

from tuneoff.use.export.exporting import export

__all__ = ["export"]
