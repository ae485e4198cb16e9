"""Write a traced network as one ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.export import ExportedProgram

from sadcl_core.errors import UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # the exporter's own: others are converted from it
LARGEST = 2**31 - 2**20  # bytes of one file


def write_onnx(
    program: ExportedProgram,
    path: Path,
    *,
    inputs: Mapping[str, Sequence[str]],
    outputs: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Write a traced network, its metadata, the names of its outputs and inputs, and of their dimensions that are not constant.

    Raises:
        UsageError: the network is too large for one file.
    """
    import onnx

    with silent():
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert written is not None, "with dynamo"
    if sum(tensor.nbytes for tensor in program.state_dict.values()) > LARGEST:
        raise UsageError("The network is larger than 2 GiB, which one ONNX file cannot be. Export it with --for torch.")
    model = written.model_proto
    names = {}
    for value, dimensions in zip(model.graph.input, inputs.values(), strict=True):
        for dimension, name in zip(value.type.tensor_type.shape.dim, dimensions, strict=True):
            names[dimension.dim_param] = name
    for value in (*model.graph.input, *model.graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = names.get(dimension.dim_param, dimension.dim_param)
    del model.graph.value_info[:]  # shapes inside, which a reader infers
    set_metadata(model, metadata)
    onnx.save(model, str(path))


def set_metadata(model: ModelProto, metadata: Mapping[str, str]) -> None:
    """Put entries into a model, in the place of all that are there."""
    from onnx.helper import set_model_props

    model.producer_name = "sadcl"
    model.doc_string = metadata.get("description", "")
    set_model_props(model, dict(metadata))


@contextmanager
def silent() -> Iterator[None]:
    """Keep libraries from telling of every step, and from giving advice, on stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
