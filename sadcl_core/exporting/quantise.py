"""Static quantisation to 8 bits: ranges from training images, new thresholds, and the cost measured on held-out images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from sadcl_core.data.images import ImageSource, read_pixels
from sadcl_core.data.split import Split
from sadcl_core.evaluation.calibrate import fit_calibration
from sadcl_core.evaluation.intervals import choose_resamples
from sadcl_core.evaluation.score_exported import score_exported
from sadcl_core.evaluation.score_split import score_split
from sadcl_core.evaluation.two_models import PairedComparison, compare_scored
from sadcl_core.exporting.metadata import metadata
from sadcl_core.exporting.onnx_writer import set_metadata, silent
from sadcl_core.inference.load import Model
from sadcl_core.inference.onnx_model import INPUT, OnnxModel, open_session
from sadcl_core.metrics.calibration import parse_objective
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.progress import StagedProgress, stage

LAYERS = ("Conv", "Gemm", "MatMul")  # whose weights and inputs become 8 bits
KEPT = 2  # convolutions at the beginning that stay as they are: few weights, and in 8 bits they cost most of the mAP that is lost
OBJECTIVE = "f1"  # of the thresholds, where the model names none


@dataclass(frozen=True)
class Quantised:
    """Result of a quantisation.

    Attributes:
        path: of the file.
        size: in bytes.
        images: of the training split that gave the ranges.
        comparison: of the trained model, first, and the quantised one, second, on the held-out images.
        speed: images per second of the quantised model, reading included.
        objective: that its thresholds were chosen for.
    """

    path: Path
    size: int
    images: int
    comparison: PairedComparison
    speed: float
    objective: str

    @property
    def losses(self) -> list[tuple[str, float]]:
        """Return the classes whose AP falls, in points, the most first."""
        pairs = zip(self.comparison.classes, self.comparison.per_class, strict=True)
        falls = [(name, difference.value) for name, difference in pairs if difference is not None and difference.value < 0]
        return sorted(falls, key=lambda pair: pair[1])

    def as_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return {
            "path": str(self.path),
            "size": self.size,
            "calibration_images": self.images,
            "objective": self.objective,
            "images_per_second": round(self.speed, 3),
            **self.comparison.as_json(),
        }


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Images one by one, as the library asks for them."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self.sources: Iterator[ImageSource] = iter(sources)

    def get_next(self) -> dict[str, npt.NDArray[np.uint8]] | None:
        """Return the inputs for the next image, or None after the last."""
        source = next(self.sources, None)
        return None if source is None else {INPUT: read_pixels(source)[None]}


def quantise(
    model: Model,
    exported: Path,
    path: Path,
    *,
    ranges: Sequence[ImageSource],
    held_out: Split,
    progress: StagedProgress | None = None,
) -> Quantised:
    """Write an exported model with weights and inputs of its layers in 8 bits, and measure what that costs.

    Weights are signed, one scale a channel, of 7 bits: with 8 a processor without VNNI overflows. The smallest and largest
    activations of training images, `ranges`, set the scales. Thresholds are chosen, and the mAP of both models is measured, on
    the images of `held_out`.

    Raises:
        DataError: an image cannot be read, or there are too few to choose thresholds on.
        UsageError: the file cannot be written.
    """
    convolutions = [node.name for node in onnx.load(exported).graph.node if node.op_type == "Conv"]
    with replacing(path) as temporary:
        with silent():
            quantize_static(
                str(exported),
                str(temporary),
                _Images(ranges),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(LAYERS),
                nodes_to_exclude=convolutions[:KEPT],
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        before = score_split(model, held_out, progress=stage(progress, "scoring with the trained model"))
        plain = OnnxModel(open_session(temporary, "cpu")[0], model.card.as_trained, temporary, model.run)
        after = replace(score_exported(plain, held_out, progress=stage(progress, "scoring with 8 bits")), name=str(path))
        objective = str(model.card.calibrated.get("objective", OBJECTIVE))
        calibration = fit_calibration(after, parse_objective(objective))
        _calibrate(temporary, model, calibration)
        comparison = compare_scored(
            before,
            after,
            resamples=choose_resamples(None, after.scores.shape, needed=True),
            progress=stage(progress, "resampling images"),
        )
        size = temporary.stat().st_size
    return Quantised(path, size, len(ranges), comparison, len(after) / max(after.seconds, 1e-9), objective)


def _calibrate(path: Path, model: Model, calibration: Any) -> None:
    """Put temperatures, biases and thresholds into a file, in place of those of the trained model."""
    values = {"temperatures": calibration.probabilities.temperatures, "biases": calibration.probabilities.biases}
    update = {name: tuple(array.tolist()) for name, array in (*values.items(), ("thresholds", calibration.thresholds.values))}
    card = model.card.model_copy(update={**update, "calibrated": calibration.about})
    network = onnx.load(path)
    for tensor in network.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.pop(tensor.name).astype(np.float32), tensor.name))
    assert not values, "the network holds its calibration under these names"
    set_metadata(network, {**metadata(replace(model, card=card)), "quantised": "int8"})
    onnx.save(network, path)
