"""The forward pass: uint8 images in, logits, features and attention out. Everything but the training step goes through here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sadcl_core.data.images import ImageSource, read_image
from sadcl_core.data.transforms import Inputs, Preprocessing
from sadcl_core.errors import MachineError, NotFiniteError
from sadcl_core.inference.predictor import NAN
from sadcl_core.model.classifier import Classifier, ClassifierOutput
from sadcl_core.registry import TEST_VIEWS, resolve
from sadcl_core.runtime.device import autocast, system_memory

LARGE = 2**26  # bytes of a batch of images, above which memory is counted before it is taken
GIB = 2**30


def prepare_inputs(images: Inputs, preprocessing: Preprocessing, device: torch.device) -> Inputs:
    """Return a batch on the device: images (B, 3, S, S) uint8 normalised, or maps in float32."""
    if isinstance(images, tuple):
        return tuple(maps.to(device, non_blocking=True).float() for maps in images)
    return preprocessing.normalise(images.to(device, non_blocking=True))


class Forward:
    """Run a classifier in evaluation mode on resized uint8 images, with its preprocessing, device and precision.

    Example:
        >>> from sadcl_core.config.schema import ModelSection
        >>> section = ModelSection(backbone="test_resnet", stride=16, head="pooled")
        >>> classifier = Classifier(section, num_classes=5, img_size=64)
        >>> forward = Forward(classifier, Preprocessing(64, mean=(0.5,) * 3, std=(0.5,) * 3), device=torch.device("cpu"))
        >>> output = forward(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), need_attention=True)
        >>> tuple(output.logits.shape), tuple(output.attention.shape)
        ((2, 5), (2, 5, 4, 4))
    """

    def __init__(
        self,
        classifier: Classifier,
        preprocessing: Preprocessing,
        *,
        device: torch.device,
        precision: str = "fp32",
        tta: str = "none",
    ) -> None:
        """Put a classifier that is on the device into evaluation mode; images arrive resized by the preprocessing.

        The precision is fp32, bf16 or fp16, and `tta` a row of `sadcl_core.registry.TEST_VIEWS`: logits are means over the image
        and these views of it, features and attention are those of the image.
        """
        self.views = resolve(TEST_VIEWS, tta, kind="test-time augmentation")
        self.classifier = classifier.eval()
        self.preprocessing = preprocessing
        self.device = device
        self.precision = precision
        self.fits = LARGE  # bytes of the largest batch that is known to fit

    def read(self, source: ImageSource, name: object = None) -> Tensor:
        """Read an image and resize it for the network: (3, S, S) uint8; see `sadcl_core.data.images.read_image`."""
        return self.preprocessing.resize(read_image(source, name))

    @torch.inference_mode()
    def __call__(
        self, images: Inputs, *, need_attention: bool = False, refuse_nan: bool = False, known: Tensor | None = None
    ) -> ClassifierOutput:
        """Return logits, features and, if needed, attention of a batch, on the device.

        Args:
            images: (B, 3, S, S) uint8, S as the preprocessing resizes; or maps from `frozen_features`.
            need_attention: also return the attention maps.
            refuse_nan: raise when a logit is NaN.
            known: (B, K), labels that are given: 1 active, 0 inactive, -1 unknown.

        Raises:
            NotFiniteError: a logit is NaN, with `refuse_nan`.
            UsageError: labels are given to a head that cannot use them.
            MachineError: a batch of large images does not fit into the memory of this machine.
        """
        with autocast(self.device, self.precision):
            if isinstance(images, Tensor) and images.nbytes > self.fits and self.device.type == "cpu":
                self._refuse_too_large(images)
            inputs = prepare_inputs(images, self.preprocessing, self.device)
            known = None if known is None else known.to(self.device)
            output: ClassifierOutput = self.classifier(inputs, need_attention=need_attention, known=known)
            if isinstance(inputs, Tensor) and (views := self.views(inputs)):
                logits = torch.stack([output.logits, *(self.classifier(view, known=known).logits for view in views)])
                output = replace(output, logits=logits.float().mean(dim=0))
        if refuse_nan and bool(output.logits.isnan().any()):
            raise NotFiniteError(NAN)
        return output

    def _refuse_too_large(self, images: Tensor) -> None:
        """Raise a MachineError if the maps of a layer do not fit into memory: the system ends a process that takes too much."""
        sizes: list[int] = []

        def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
            sizes.append(sum(tensor.nbytes for tensor in tree_leaves((inputs, outputs)) if isinstance(tensor, Tensor)))

        layers = [module for module in self.classifier.modules() if next(module.children(), None) is None]
        handles = [layer.register_forward_hook(note) for layer in layers]
        try:
            self.classifier(prepare_inputs(images[:1], self.preprocessing, self.device))
        finally:
            for handle in handles:
                handle.remove()
        needed, free = len(images) * max(sizes), system_memory()[0]
        if needed > free:
            raise MachineError(
                f"{len(images):,} images of {images.shape[-1]} px at a time take {needed / GIB:,.1f} GiB at least, and "
                f"{free / GIB:,.1f} GiB are free. Use a smaller --batch-size or --img-size."
            )
        self.fits = images.nbytes

    @torch.inference_mode()
    def frozen_features(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the frozen layers for images (B, 3, S, S) uint8; see `Backbone.frozen_part`."""
        with autocast(self.device, self.precision):
            maps: tuple[Tensor, ...] = self.classifier.backbone.frozen_part(self.preprocessing.normalise(images.to(self.device)))
        return maps

    @torch.inference_mode()
    def project(self, features: Tensor) -> Tensor:
        """Project label features (..., D) to embeddings (..., P) of length 1, float32; see `Classifier.project`."""
        with autocast(self.device, self.precision):
            embeddings = self.classifier.project(features.to(self.device)).float()
        if not bool(embeddings.isfinite().all()):
            raise NotFiniteError(NAN)
        return embeddings
