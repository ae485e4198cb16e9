"""An exported model, run by onnxruntime; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from sadcl_core.data.images import read_pixels
from sadcl_core.errors import DataError, MachineError, NotFiniteError, UsageError
from sadcl_core.inference.predict import Details
from sadcl_core.inference.predictor import NAN, Predictor
from sadcl_core.runs.card import ModelCard, read_card
from sadcl_core.runs.run_directory import RunDirectory, find_model
from sadcl_core.runtime.device import check_device_and_precision
from sadcl_core.runtime.threads import count_processors

if TYPE_CHECKING:
    from sadcl_core.data.images import ImageSource

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
Floats = npt.NDArray[np.float32]

INPUT = "images"
PROBABILITIES, LOGITS, LABEL_FEATURES, ATTENTION, IMAGE_FEATURES, EMBEDDINGS = OUTPUTS = (
    *("probabilities", "logits", "label_features", "attention", "image_features", "embeddings"),
)
BATCH_SIZE = 8  # images at most that wait in memory in their own size; more are no faster on a processor
MOST_PIXELS = 2**24  # of images that go through together: resizing in the network takes some 60 bytes for each
NO_ONNXRUNTIME = "An ONNX file needs onnxruntime, which is not installed. Install it: pip install onnxruntime"
CUDA = "CUDAExecutionProvider"


@dataclass(frozen=True, eq=False)
class OnnxModel(Predictor[Pixels]):
    """An exported model. It can be pickled: the copy opens the file again.

    Attributes:
        session: of onnxruntime.
        card: of the model that was exported; without its calibration, where that is left out.
        path: of the ONNX file.
        run: the run it belongs to, or None for a file on its own.
        device: cpu, or cuda:N.
    """

    LARGEST_BATCH: ClassVar[int] = BATCH_SIZE

    session: Any = field(repr=False)
    card: ModelCard = field(repr=False)
    path: Path
    run: RunDirectory | None = field(default=None, repr=False)
    device: str = field(default="cpu", kw_only=True)
    is_last_run: bool = field(default=False, kw_only=True, repr=False)

    def read(self, source: ImageSource, name: object = None) -> Pixels:
        """Return an image (H, W, 3) uint8, of its own size."""
        return read_pixels(source, name)

    def score(self, images: list[Pixels]) -> Floats:
        """Return the probabilities (B, K) of images of any size."""
        (logits, probabilities) = self.outputs(images, (LOGITS, PROBABILITIES))
        return self.calibrated(logits, probabilities)

    def details(self, images: list[Pixels]) -> Details:
        """Return scores (B, K), features (B, D_b), embeddings (B, K, P) and attention (B, K, h, w) of images of any size.

        Raises:
            UsageError: the file was exported by a version that left features of images out.
        """
        if EMBEDDINGS not in {output.name for output in self.session.get_outputs()}:
            return super().details(images)
        names = (LOGITS, PROBABILITIES, IMAGE_FEATURES, EMBEDDINGS, ATTENTION)
        logits, probabilities, *others = self.outputs(images, names)
        return Details(self.calibrated(logits, probabilities), *others)

    def calibrated(self, logits: Floats, probabilities: Floats) -> Floats:
        """Return the probabilities (B, K) in the network, or those without its calibration where that is left out."""
        return probabilities if self.card.temperatures else sigmoid(logits)

    def outputs(self, images: Sequence[Pixels], names: Sequence[str]) -> list[Floats]:
        """Return outputs for B images, one array (B, ...) for each of the names from OUTPUTS.

        Images of one size go through together.

        Raises:
            NotFiniteError: the model gives NaN.
        """
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            by_shape.setdefault(image.shape, []).append(number)
        rows: list[list[Floats]] = [[] for _ in images]
        for (height, width, _), numbers in by_shape.items():
            count = max(1, MOST_PIXELS // (height * width))
            for start in range(0, len(numbers), count):
                part = numbers[start : start + count]
                results = self.session.run(list(names), {INPUT: np.stack([images[number] for number in part])})
                for place, number in enumerate(part):
                    rows[number] = [result[place] for result in results]
        arrays = [np.stack(values) for values in zip(*rows, strict=True)]
        if any(np.isnan(array).any() for array in arrays):
            raise NotFiniteError(NAN)
        return arrays

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path."""
        return _reopen, (self.path, self.device, not self.card.calibrated)


def sigmoid(logits: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), float32.

    Example:
        >>> sigmoid(np.float32([-200, 0, 200])).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))), np.float32)


def open_onnx(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    img_size: int | None = None,
    uncalibrated: bool = False,
    tta: str = "none",
    resize: int = 0,
    classes: str = "",
) -> OnnxModel:
    """Open an exported model; see `sadcl_core.load` for the arguments.

    Raises:
        DataError: the file is missing, damaged, or not written by sadcl export.
        UsageError: an option is asked for that was fixed when the model was exported.
        MachineError: onnxruntime or the device is missing.
    """
    check_device_and_precision(device, precision)
    path = Path(path)
    file, run = find_model(path)
    card = read_card(file, classes=classes)
    options = {
        f"--img-size {img_size}": img_size not in (None, card.img_size),
        f"--precision {precision}": precision not in ("auto", "fp32"),
        f"--tta {tta}": tta != "none",
        f"--resize {resize}": resize,
    }
    for option in (option for option, used in options.items() if used):
        raise UsageError(
            f"{option}: {path} was exported for images of {card.img_size} px as it is. Leave it out, or use the run."
        )
    session, chosen = open_session(file, device)
    return OnnxModel(session, card.as_trained if uncalibrated else card, file, run, device=chosen)


def open_session(path: Path, device: str) -> tuple[Any, str]:
    """Return a session, and the device that it computes on."""
    try:
        import onnxruntime
    except ImportError:
        raise MachineError(NO_ONNXRUNTIME) from None
    has_cuda = CUDA in onnxruntime.get_available_providers()
    if device == "mps" or (device.startswith("cuda") and not has_cuda):
        raise MachineError(f"onnxruntime cannot compute on {device} here. Use --device cpu, or install onnxruntime-gpu.")
    number = int(device.partition(":")[2] or 0)
    on_gpu = has_cuda and device != "cpu"
    providers: list[Any] = [(CUDA, {"device_id": number})] if on_gpu else []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_processors()
    options.log_severity_level = 3  # errors: it warns of its own optimisations
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[*providers, "CPUExecutionProvider"])
    except Exception as error:  # of many kinds, which have no base of their own
        raise DataError(f"{path} cannot be opened by onnxruntime ({str(error).splitlines()[0]}). Export it again.") from None
    return session, f"cuda:{number}" if on_gpu else "cpu"


def _reopen(path: Path, device: str, uncalibrated: bool) -> OnnxModel:
    """Open a pickled model, on another device where its own is missing."""
    try:
        return open_onnx(path, device=device, uncalibrated=uncalibrated)
    except MachineError:
        return open_onnx(path, uncalibrated=uncalibrated)
