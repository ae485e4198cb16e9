"""All of predicting as one network: uint8 images of any size in, probabilities out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from sadcl_core.exporting.resize import resize
from sadcl_core.inference.load import Model

DIMENSIONS = ("batch", "height", "width", "channels")  # of the input
LARGEST_LOGIT = 16.635532  # of a probability in float32 that is below 1: a calibration sees no larger one


class WholeModel(nn.Module):
    """Resizing, normalisation, network, sigmoid and calibration.

    Example:
        >>> from pathlib import Path
        >>> from sadcl_core.config.schema import ModelSection
        >>> from sadcl_core.model.classifier import Classifier
        >>> from sadcl_core.runs.card import ModelCard
        >>> section = ModelSection(backbone="test_resnet", stride=16, head="pooled")
        >>> card = ModelCard(classes=("cat", "dog", "cow"), img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, model=section)
        >>> classifier = Classifier(section, num_classes=3, img_size=64).eval()
        >>> model = Model(classifier, card, Path("pets.safetensors"), device=torch.device("cpu"))
        >>> [tuple(tensor.shape) for tensor in WholeModel(model)(torch.zeros(2, 48, 80, 3, dtype=torch.uint8))]
        [(2, 3), (2, 3), (2, 3, 192), (2, 3, 4, 4), (2, 192), (2, 3, 1024)]
    """

    mean: Tensor
    std: Tensor
    temperatures: Tensor
    biases: Tensor

    def __init__(self, model: Model, *, prepared: bool = False) -> None:
        """Take over a model on the CPU; `prepared` images come resized and normalised, float32 (B, 3, S, S)."""
        super().__init__()
        card = model.card
        self.classifier = model.classifier
        self.img_size, self.prepared = card.img_size, prepared
        self.register_buffer("mean", torch.tensor(card.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(card.std).view(3, 1, 1))
        self.register_buffer("temperatures", torch.tensor(card.temperatures or [1.0] * len(card.classes)))
        self.register_buffer("biases", torch.tensor(card.biases or [0.0] * len(card.classes)))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what an exported file gives of images (B, H, W, 3) uint8, RGB, in the order of OUTPUTS of `onnx_model`.

        Probabilities (B, K), logits (B, K), label features (B, K, D), attention (B, K, h, w), image features (B, D_b) and
        embeddings of the labels (B, K, P), of length 1.
        """
        if not self.prepared:
            images = (resize(images, self.img_size).float() / 255 - self.mean) / self.std
        output = self.classifier(images, need_attention=True)
        embeddings = self.classifier.project(output.label_features)
        scores = (self.probabilities(output.logits), output.logits)
        return *scores, output.label_features, output.attention, output.image_features, embeddings

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return calibrated probabilities (B, K) for logits (B, K)."""
        return (logits.clamp(max=LARGEST_LOGIT) / self.temperatures + self.biases).sigmoid()

    def example(self) -> Tensor:
        """Return a batch that it can be traced with."""
        if self.prepared:
            return torch.zeros(2, 3, self.img_size, self.img_size)
        return torch.zeros(2, 70, 90, 3, dtype=torch.uint8)


class TaggerModel(WholeModel):
    """Outputs of a tagger alone: probabilities (B, K), logits (B, K) and the feature of the image (B, D_b)."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return them for prepared images (B, 3, S, S)."""
        output = self.classifier(images)
        return self.probabilities(output.logits), output.logits, output.image_features


class PictureModel(WholeModel):
    """The whole model for one image (1, 3, S, S) that comes resized, as numbers in 0..255, as Core ML gives pictures."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the whole model returns."""
        return super().forward((images / 255 - self.mean) / self.std)


def trace(network: WholeModel) -> ExportedProgram:
    """Return the operations of a network, for batches of any size and images of any height and width.

    Those of a PictureModel are for one image at a time.
    """
    network.classifier.head.precompute()
    example, dynamic = network.example(), {0: Dim.DYNAMIC}
    if isinstance(network, PictureModel):
        example, dynamic = example[:1], {}
    elif not network.prepared:
        dynamic |= {1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    with torch.no_grad(), _traceable(network):
        return torch.export.export(network.eval(), (example,), dynamic_shapes=(dynamic,), strict=False)


@contextmanager
def _traceable(network: nn.Module) -> Iterator[None]:
    """Keep torch from fused attention, which other programs lack, and from activations in place, which take longest to write."""
    before = torch.backends.mha.get_fastpath_enabled()
    in_place = [module for module in network.modules() if getattr(module, "inplace", False)]
    torch.backends.mha.set_fastpath_enabled(False)
    for module in in_place:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
        for module in in_place:
            module.inplace = True  # type: ignore[assignment]
