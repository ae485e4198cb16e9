"""What training takes at least, against what PyTorch keeps for the backward pass on the CPU."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import Tensor

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import MachineError
from sadcl_core.model.classifier import Classifier
from sadcl_core.training.memory import ran_out_of_memory, refuse_too_large, release_failed_pass, training_memory

CPU = torch.device("cpu")
SMALL = {"backbone": "test_resnet", "head": "sarl", "heads": {"sarl": {"width": 16, "feedforward": 32}}, "projection_width": 8}


def config(model: dict[str, object] | None = None, **data: int) -> RunConfig:
    return RunConfig.model_validate({"model": {**SMALL, **(model or {})}, "data": {"img_size": 64, "batch_size": 64, **data}})


def kept(classifier: Classifier, images: int) -> int:
    """Return the bytes that are kept for the backward pass beside the weights."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*classifier.parameters(), *classifier.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        classifier.train()(torch.zeros(images, 3, 64, 64))
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"head": "csra"},
        {"head": "ml_decoder", "heads": {"ml_decoder": {"width": 16, "feedforward": 32, "groups": 2}}},
        {"backbone": "test_vit", "stride": 16, "head": "pooled"},
    ],
    ids=["sarl", "csra", "ml_decoder", "vit"],
)
def test_what_is_kept_of_an_image_is_what_pytorch_keeps(model: dict[str, object]) -> None:
    settings = config(model)
    real = kept(Classifier(settings.model, num_classes=5, img_size=64), 8) / 8
    views = max(stage.views for stage in settings.stages.values())
    assert 0.6 * real < training_memory(settings, classes=5, images=4).image / views <= 1.05 * real


def test_the_largest_map_of_a_frozen_backbone_is_counted() -> None:
    settings = config({"backbone": "resnet18", "head": "pooled"})
    frozen = {name: stage.model_copy(update={"backbone_lr_scale": 0.0}) for name, stage in settings.stages.items()}
    settings = settings.model_copy(update={"stages": frozen})
    views = max(stage.views for stage in frozen.values())
    assert training_memory(settings, classes=5, images=4).image == views * 64 * 32 * 32 * 4  # of the first convolution


def test_weights_are_counted_with_their_average_gradient_and_moments() -> None:
    whole = sum(tensor.nbytes for tensor in Classifier(config().model, num_classes=5, img_size=64).state_dict().values())
    assert 4.5 * whole < training_memory(config(), classes=5, images=4).weights <= 5 * whole


def test_what_does_not_fit_is_refused_with_what_to_do(manifest: Manifest) -> None:
    refuse_too_large(config(), manifest, CPU, "fp32")
    refuse_too_large(config(batch_size=1_000_000), manifest, CPU, "fp32")  # there are not so many images
    for large in (config(img_size=4096), config({"heads": {"sarl": {"width": 65_536}}})):
        with pytest.raises(MachineError, match=r"GiB at least .* Use a smaller --batch-size"):
            refuse_too_large(large, manifest, CPU, "fp32")


def test_what_memory_that_ran_out_looks_like() -> None:
    assert ran_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory"))
    assert not ran_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out_of_memory(ValueError("out of memory"))


class Kept:
    """What a graph keeps of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


def test_nothing_is_left_of_a_backward_pass_that_failed() -> None:
    kept: list[weakref.ref[Kept]] = []

    def pack(tensor: Tensor) -> Kept:
        packed = Kept(tensor)
        kept.append(weakref.ref(packed))
        return packed

    def starve(grad: Tensor) -> Tensor:
        raise MemoryError

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed.tensor):
        weights = torch.ones(4, requires_grad=True) * 2
        first, second = weights.exp(), weights.sin()
        second.register_hook(starve)  # while the pass of `first` still waits for its turn
        loss = (second + first * 1).sum()
    with pytest.raises(MemoryError):
        loss.backward()
    del loss, first, second, weights
    gc.collect()
    assert any(reference() for reference in kept), "torch has let go of it by itself, and nothing needs to be released"
    release_failed_pass()
    assert not any(reference() for reference in kept)
