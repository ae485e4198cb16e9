"""Load a trained model, and use it on images.

Importing this module imports no torch, and `load` checks names and values before it imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sadcl_core.errors import UsageError
from sadcl_core.inference.onnx_model import OnnxModel, open_onnx
from sadcl_core.inference.predict import Details
from sadcl_core.inference.predictor import Predictor
from sadcl_core.registry import TEST_VIEWS, suggest
from sadcl_core.runs.card import ModelCard, is_checkpoint, read_card, refuse_known
from sadcl_core.runs.onnx_file import is_onnx
from sadcl_core.runs.run_directory import RunDirectory, find_model
from sadcl_core.runtime.device import check_device_and_precision, choose_device, choose_precision
from sadcl_core.runtime.files import from_home

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sadcl_core.data.images import ImageSource
    from sadcl_core.data.transforms import Preprocessing
    from sadcl_core.inference.embed import Embeddings
    from sadcl_core.inference.forward import Forward
    from sadcl_core.inference.predictor import Images
    from sadcl_core.model.classifier import Classifier, ClassifierOutput


def load(
    run_or_file: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    img_size: int | None = None,
    uncalibrated: bool = False,
    tta: str = "none",
    resize: int = 0,
    classes: str = "",
) -> Model | OnnxModel:
    """Load a trained model, or an exported one, which predicts without torch.

    Args:
        run_or_file: a run (its best model), a model file, an ONNX file of `sadcl export`, a checkpoint of another program that
            `sadcl import` takes, or None for the run under runs/ that finished last.
        device: auto, cpu, cuda, cuda:N or mps; auto takes a GPU where there is one.
        precision: auto, fp32, bf16 or fp16; auto takes half precision on CUDA.
        img_size: side in pixels that images are resized to; by default as in training.
        uncalibrated: leave out the temperatures and thresholds that a calibration put into the file.
        tta: none, flip or crops: logits are means over the image and its mirror image, or five crops of it.
        resize: side in pixels that images are resized to before their centre of `img_size` is cut out; 0: no centre is.
        classes: their names, of a checkpoint of another program, which has none: coco, voc, a file, or names with commas between
            them.

    Raises:
        DataError: there is no model, or it is damaged.
        UsageError: there is no such device or precision, or the backbone cannot be used at this image size.
        MachineError: this machine does not have the device or precision.

    Example:
        >>> model = load("runs/coco")  # doctest: +SKIP
        >>> model.predict("img.jpg").labels  # doctest: +SKIP
        (('person', 0.98), ('dog', 0.71))
    """
    exported = run_or_file is not None and is_onnx(Path(run_or_file))
    open_model: Callable[..., Model | OnnxModel] = open_onnx if exported else load_trained
    return open_model(
        run_or_file,
        device=device,
        precision=precision,
        img_size=img_size,
        uncalibrated=uncalibrated,
        tta=tta,
        resize=resize,
        classes=classes,
    )


def load_trained(
    run_or_file: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    img_size: int | None = None,
    uncalibrated: bool = False,
    tta: str = "none",
    resize: int = 0,
    classes: str = "",
) -> Model:
    """Load a trained model, with its network in torch; arguments and errors are those of `load`.

    Raises:
        UsageError: the file is an exported one.
    """
    check_device_and_precision(device, precision)
    if tta not in TEST_VIEWS:
        raise UsageError(f"There is no test-time augmentation {tta!r}. {suggest(tta, TEST_VIEWS)}")
    if run_or_file is not None and is_onnx(Path(run_or_file)):
        raise UsageError(
            f"{run_or_file} is an exported model, which only predicts and is evaluated. Give the run or its model file."
        )
    path, run, card = find_card(run_or_file, classes=classes, img_size=img_size)
    if resize and resize < (img_size or card.img_size):
        raise UsageError(
            f"--resize {resize} is less than the {img_size or card.img_size} px that are cut out of it. Give a larger one."
        )

    from sadcl_core.runs.checkpoint import load_model

    chosen_device = choose_device(device)
    chosen_precision = choose_precision(precision, chosen_device)
    loaded = load_model(path, img_size=img_size, classes=classes)
    return Model(
        classifier=loaded.classifier.to(chosen_device),
        card=loaded.card.as_trained if uncalibrated else loaded.card,
        path=path,
        run=run,
        device=chosen_device,
        precision=chosen_precision,
        is_last_run=run_or_file is None,
        tta=tta,
        resize=resize,
    )


class ModelFile(NamedTuple):
    """A model file whose weights are not read yet: its path, the run it belongs to (None for a file on its own), and its card."""

    path: Path
    run: RunDirectory | None
    card: ModelCard

    def folder(self, name: str) -> Path:
        """Return where results of a kind go by default: into the run, or here for a model file on its own."""
        return self.run.path / name if self.run is not None else Path(name)


def find_card(
    run_or_file: str | Path | None = None, *, uncalibrated: bool = False, classes: str = "", img_size: int | None = None
) -> ModelFile:
    """Find a model and read its card, without torch unless it is a checkpoint of another program.

    Args:
        run_or_file: as for `load`.
        uncalibrated: return the card without the numbers of a calibration.
        classes: as for `load`.
        img_size: in pixels, for a checkpoint that does not say it.

    Raises:
        DataError: there is no model, or it is damaged.
        UsageError: see `sadcl_core.runs.card.read_card`.
    """
    path, run = find_model(None if run_or_file is None else Path(run_or_file))
    card = read_card(path, classes=classes, img_size=img_size)
    return ModelFile(path, run, card.as_trained if uncalibrated else card)


def read_card_of_init(given: Mapping[str, Any]) -> ModelCard | None:
    """Return the card of the model that dotted settings name as `model.init_from`; None where they name none.

    Raises:
        DataError: there is no such model.
        UsageError: a checkpoint of another program does not say something that is not given.
    """
    init_from = str(given.get("model.init_from") or "")
    if not init_from:
        return None
    try:
        return find_card(init_from, classes=str(given.get("model.init_classes") or ""), img_size=given.get("data.img_size")).card
    except UsageError as error:
        raise UsageError(str(error).replace("--classes", "--init-classes")) from None


def read_card_of_setting(key: str, model: str) -> ModelCard:
    """Return the card of the run or model file that a setting names, whose weights are used in torch.

    Raises:
        DataError: there is no such model, or it is damaged.
        UsageError: it is an exported model, or a checkpoint of another program, which does not name its classes.
    """
    path = find_model(from_home(model))[0]
    if is_onnx(path) or is_checkpoint(path):
        raise UsageError(
            f"{key}: {path} is no model file of sadcl train. Give a run or its model file; sadcl import makes a run of another "
            "program's checkpoint."
        )
    return read_card(path)


@dataclass(frozen=True, eq=False)
class Model(Predictor["Tensor"]):
    """A trained model on its device.

    It can be pickled, for workers on other machines: the copy carries its weights and needs no file.

    Attributes:
        classifier: the network, in evaluation mode.
        card: what the model file says of itself.
        path: of the model file.
        run: the run it belongs to, or None for a file on its own.
        device: where it computes.
        precision: fp32, bf16 or fp16.
        is_last_run: nothing was named, and this is the run that finished last.
        tta: views that logits are means over, beside the image itself: none, flip or crops.
        resize: side that images are resized to before their centre is cut out; 0: they are resized to the size of the model.
        known: K labels that every image is given with: 1 active, 0 inactive, -1 unknown; none where nothing is known.

    Example:
        >>> import torch
        >>> from sadcl_core.config.schema import ModelSection
        >>> from sadcl_core.model.classifier import Classifier
        >>> section = ModelSection(backbone="test_resnet", stride=16, head="pooled")
        >>> card = ModelCard(classes=("cat", "dog", "cow"), img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)
        >>> classifier = Classifier(section, num_classes=3, img_size=64)
        >>> model = Model(classifier.eval(), card, Path("pets.safetensors"), device=torch.device("cpu"))
        >>> image = np.zeros((48, 80, 3), dtype=np.uint8)
        >>> len(model.predict(image, topk=2).labels)
        2
        >>> model.attention([image, image], labels=["dog"]).shape
        (2, 1, 4, 4)
        >>> list(model({"image": [image], "id": [7]}))
        ['id', 'labels', 'probabilities', 'scores', 'passed', 'error']
    """

    classifier: Classifier = field(repr=False)
    card: ModelCard = field(repr=False)
    path: Path
    run: RunDirectory | None = field(default=None, repr=False)
    device: torch.device = field(kw_only=True)
    precision: str = field(default="fp32", kw_only=True)
    is_last_run: bool = field(default=False, kw_only=True, repr=False)
    tta: str = field(default="none", kw_only=True)
    resize: int = field(default=0, kw_only=True)
    known: tuple[int, ...] = field(default=(), kw_only=True, repr=False)

    @property
    def preprocessing(self) -> Preprocessing:
        """Return size, mean and standard deviation of the images for the network."""
        return replace(self.card.preprocessing, resized=self.resize)

    @property
    def settings(self) -> dict[str, Any]:
        """Return what scores depend on beside the image, as for JSON."""
        own = {"device": self.device.type, "precision": self.precision, "tta": self.tta, "img_size": self.card.img_size}
        asked = {"resize": self.resize, "known": list(self.known)}
        return {**super().settings, **own, **{name: value for name, value in asked.items() if value}}

    @cached_property
    def forward(self) -> Forward:
        """Return the forward pass of the model: uint8 images (B, 3, S, S) -> logits, features, attention."""
        from sadcl_core.inference.forward import Forward

        return Forward(self.classifier, self.preprocessing, device=self.device, precision=self.precision, tta=self.tta)

    def read(self, source: ImageSource, name: object = None) -> Tensor:
        """Return an image (3, S, S) uint8, resized for the network."""
        return self.forward.read(source, name)

    def given(self, known: Mapping[str, int]) -> Self:
        """Return this model for images of which labels are known, see `Predictor.given`."""
        refuse_known(self.path, self.card, "known labels")
        return replace(self, known=self.card.known_labels(known))

    def score(self, images: list[Tensor]) -> npt.NDArray[np.float32]:
        """Return the probabilities (B, K) of images that `read` gave."""
        return self._scored(images)[1]

    def details(self, images: list[Tensor]) -> Details:
        """Return scores (B, K), features (B, D_b), embeddings (B, K, P) and attention (B, K, h, w) of images that `read` gave."""
        output, scores = self._scored(images, need_attention=True)
        assert output.attention is not None, "asked for"
        embeddings = self.forward.project(output.label_features)
        tensors = (output.image_features, embeddings, output.attention)
        return Details(scores, *(tensor.float().cpu().numpy() for tensor in tensors))

    def _scored(self, images: list[Tensor], *, need_attention: bool = False) -> tuple[ClassifierOutput, npt.NDArray[np.float32]]:
        """Return the output for B images and their probabilities (B, K), in which labels that are known stand as they are."""
        import torch

        known = torch.tensor(self.known).expand(len(images), -1) if self.known else None
        output = self.forward(torch.stack(images), need_attention=need_attention, refuse_nan=True, known=known)
        scores = np.asarray(self.card.scores(output.logits).cpu().numpy())
        return output, scores if known is None else np.where(known < 0, scores, known).astype(np.float32)

    def embed(self, images: ImageSource | Images, *, batch_size: int = 32, workers: int | None = None) -> Embeddings:
        """Return the features of N images and of each of their K labels; arguments are those of `predict`.

        Raises:
            DataError: an image cannot be read.
        """
        from sadcl_core.inference.embed import embed

        return embed(self.forward, self.card, self.many(images), batch_size=batch_size, workers=workers)

    def attention(
        self,
        images: ImageSource | Images,
        labels: Sequence[str] | None = None,
        *,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return where in N images the model read K' labels from, by default all; the other arguments are those of `predict`.

        Returns:
            (N, K', h, w) float32; each map sums to 1 over its locations.

        Raises:
            DataError: an image cannot be read.
            UsageError: there is no such class.
        """
        from sadcl_core.inference.attention import attention

        return attention(self.forward, self.card, self.many(images), labels, batch_size=batch_size, workers=workers)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the weights, on the CPU, and the card."""
        weights = {name: tensor.detach().cpu() for name, tensor in self.classifier.state_dict().items()}
        others = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "classifier"}
        return _rebuild, (weights, {**others, "device": str(self.device)})


def _rebuild(weights: Mapping[str, Tensor], others: Mapping[str, Any]) -> Model:
    """Build a pickled model, on another device where its own is missing."""
    from sadcl_core.errors import MachineError
    from sadcl_core.model.classifier import Classifier

    card: ModelCard = others["card"]
    classifier = Classifier(card.model, num_classes=len(card.classes), img_size=card.img_size, initialise=False)
    classifier.assign(weights)
    try:
        device = choose_device(others["device"])
        precision = choose_precision(others["precision"], device)
    except MachineError:
        device = choose_device("auto")
        precision = choose_precision("auto", device)
    return Model(classifier.eval().to(device), **{**others, "device": device, "precision": precision})
