"""ONNX graphs by torch.onnx, in the layout and with the names that optimum uses; batch and lengths are dynamic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneoff.errors import ExportError, first_line
from tuneoff.model.base import ModelClass
from tuneoff.runner.finished import Finished
from tuneoff.use.export.graphs import Graph, graphs
from tuneoff.use.export.merged import require_plain_model, scored_model, search_config

if TYPE_CHECKING:
    from transformers import GenerationConfig

ONE_FILE = 1.5 * 2**30  # bytes of weights; protobuf ends at 2 GiB, and beyond they lie in a file beside


def write_onnx(finished: Finished, folder: Path) -> GenerationConfig:
    """The graphs in fp32, with config, generation config and tokenizer. Raises ExportError where torch.onnx cannot."""
    model = scored_model(finished)
    search = search_config(finished, model)
    require_plain_model(finished, search, "ONNX Runtime")
    try:
        write_graphs(model, finished.resolved.model_class, folder)
    except Exception as error:  # an architecture that torch.export or the checker cannot take: of many types
        first = first_line(error)
        raise ExportError(
            f"arm {finished.name}: torch.onnx cannot export this model: {first} --format merged takes any"
        ) from error
    model.config.save_pretrained(folder)
    search.save_pretrained(folder)
    finished.tokenizer.save_pretrained(folder)
    return search


def write_graphs(model: Any, kind: ModelClass, folder: Path) -> None:
    """Each graph of `model`, which becomes fp32, as a checked file in `folder`."""
    import onnx
    import torch

    model.float().eval()
    model.set_attn_implementation("eager")  # the fused attention has strides that the decomposition refuses
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    for graph in graphs(model, kind):
        path = folder / f"{graph.name}.onnx"
        with torch.no_grad():
            _export(graph, path, external_data=size > ONE_FILE)
        onnx.checker.check_model(str(path))


def _export(graph: Graph, path: Path, external_data: bool) -> None:
    import torch

    torch.onnx.export(
        graph.module,
        graph.inputs,
        str(path),
        input_names=graph.input_names,
        output_names=graph.output_names,
        dynamic_shapes=graph.shapes,
        external_data=external_data,
        dynamo=True,
        verbose=False,
    )
