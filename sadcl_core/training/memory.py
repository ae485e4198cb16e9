"""The memory that training takes at least, by the network on the meta device, and what an error says where it ran out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sadcl_core.config.schema import RunConfig
from sadcl_core.data.manifest import Manifest
from sadcl_core.errors import MachineError
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.lora import add_adapters
from sadcl_core.runs.run_directory import find_model
from sadcl_core.runtime.device import system_memory
from sadcl_core.runtime.distributed import get_world_size
from sadcl_core.training.optimizer import set_trainable
from sadcl_core.training.terms import TERMS

GRADIENTS = {"adamw": 3, "adam": 3, "sgd": 2}  # numbers beside each trained weight: its gradient, and what the optimiser keeps
PAIR = 2  # images that the network is followed for: BatchNorm takes no single one
GIB = 2**30
STARVED = ("could not create a primitive", "bad_alloc", "Cannot allocate memory")  # as libraries below torch say it


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that a process takes at least while it trains; others, which are not counted, come on top.

    Attributes:
        weights: the network, its EMA, gradients and optimiser, and its teachers.
        bank: of features of earlier batches.
        batch: the images of a batch.
        image: what the backward pass needs of one image, in all of its views, or the forward pass where that is more.
    """

    weights: int
    bank: int
    batch: int
    image: int

    def total(self, images: int) -> int:
        """Return the bytes where so many images are computed at a time."""
        return self.weights + self.bank + self.batch + images * self.image


def training_memory(config: RunConfig, *, classes: int, images: int, precision: str = "fp32") -> TrainingMemory:
    """Return what the stages of a run take, the largest of each, for so many images of a batch in this process.

    Raises:
        UsageError: the backbone or the head cannot be built so.

    Example:
        >>> from sadcl_core.config.schema import ModelSection
        >>> model = ModelSection(backbone="test_resnet", head="pooled", projection_width=4)
        >>> small, large = (training_memory(RunConfig(model=model), classes=classes, images=2) for classes in (10, 999))
        >>> small.weights < large.weights, small.batch == large.batch == 2 * 3 * 448 * 448 * 4
        (True, True)
    """
    model, side = config.model, config.data.img_size
    with torch.device("meta"):
        classifier = Classifier(model, num_classes=classes, img_size=side, initialise=False)
        add_adapters(classifier.backbone, config.optim.lora_rank)
    if config.compute.gradient_checkpointing:
        classifier.backbone.checkpoint_gradients()
    weights = bank = image = 0
    views = 1
    passes: dict[bool, tuple[int, int]] = {}  # by whether the backbone is trained
    for stage in (config.stages[name] for name in config.used_stages):
        terms = [TERMS[term] for term in stage.weights]
        set_trainable(
            classifier,
            backbone=stage.backbone_lr_scale > 0,
            projection=any(term.projection for term in terms),
            prototypes=any(term.prototypes for term in terms),
        )
        trained = sum(parameter.nbytes for parameter in classifier.parameters() if parameter.requires_grad)
        whole = sum(tensor.nbytes for tensor in classifier.state_dict().values())
        weights = max(weights, 2 * whole + GRADIENTS[stage.optimizer] * trained)
        bank = max(bank, config.bank_slots(stage) * classifier.prototypes.nbytes)
        views = max(views, 1 if config.features.once else stage.views)
        trains = stage.backbone_lr_scale > 0
        passes[trains] = passes[trains] if trains in passes else _passes(classifier, side)
        saved, layer = passes[trains]
        image = max(image, stage.views * saved, 0 if config.features.once else stage.views * layer)
    teachers = [find_model(Path(teacher))[0] for teacher in config.loss.distillation.teachers]
    return TrainingMemory(
        weights // (get_world_size() if config.compute.shard else 1) + sum(path.stat().st_size for path in teachers),
        bank,
        views * images * 3 * side * side * torch.float32.itemsize,
        image if precision == "fp32" else image // 2,
    )


def refuse_too_large(config: RunConfig, manifest: Manifest, device: torch.device, precision: str) -> None:
    """Refuse a run that cannot fit into the memory that is free, before it takes any.

    A GPU that runs out says so, and the batch is cut; the system ends a process that does.

    Raises:
        UsageError: the backbone or the head cannot be built so.
        MachineError: it takes more memory than is free.
    """
    images = min(config.data.batch_size, len(manifest.split(config.data.train_split)))
    images = math.ceil(images / get_world_size())
    needed = training_memory(config, classes=len(manifest.classes), images=images, precision=precision)
    if device.type == "cuda":
        free, images = torch.cuda.mem_get_info(device)[0], 1
    else:
        free, images = system_memory()[0], math.ceil(images / config.compute.accumulate)
    if needed.total(images) <= free:
        return
    kept = (needed.weights + needed.bank + needed.batch) / GIB
    head, network = config.model.head, config.model.backbone
    raise MachineError(
        f"Training {head} on {network} at {config.data.img_size} px takes {needed.total(images) / GIB:,.1f} GiB "
        f"at least ({kept:,.1f} for the weights, the optimiser and a batch, {needed.image / GIB:,.2f} for each of {images} "
        f"images at a time), and {free / GIB:,.1f} GiB of {device} are free. Use a smaller --batch-size, --img-size, --backbone "
        "or head, or compute batches in parts with --accumulate."
    )


def _passes(classifier: Classifier, side: int) -> tuple[int, int]:
    """Return the bytes of one image that the backward pass needs, weights left out, and of the largest map of the backbone."""
    own = {tensor.untyped_storage()._cdata for tensor in (*classifier.parameters(), *classifier.buffers())}
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage  # kept, so that no other one gets its address
        return tensor.detach()  # or the graph would keep itself

    largest = 0

    def note(module: nn.Module, inputs: Any, outputs: Any) -> None:
        nonlocal largest
        largest = max(largest, outputs.nbytes if isinstance(outputs, Tensor) else 0)

    classifier.train()
    handles = [module.register_forward_hook(note) for module in classifier.backbone.modules()]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), _FusedAttention():
        classifier(torch.empty(PAIR, 3, side, side, device="meta"))
    for handle in handles:
        handle.remove()
    return sum(storage.nbytes() for storage in storages.values()) // PAIR, largest // PAIR


class _FusedAttention(TorchFunctionMode):
    """Keep no matrix of attention: devices compute it in one kernel, and the meta device in parts."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function, or keep the query and the result of attention as its kernels do."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        query, _, value = args[:3]
        return query.mean(-1, keepdim=True) * value.mean(-2, keepdim=True)


def release_failed_pass() -> None:
    """Free what a backward pass holds that failed on a CPU: torch keeps its queue until the next pass of the thread begins.

    Example:
        >>> release_failed_pass()
    """
    torch.zeros((), requires_grad=True).backward()


def ran_out_of_memory(error: BaseException) -> bool:
    """Return True if an error says that a device, or this machine, has no more memory to give.

    Example:
        >>> ran_out_of_memory(MemoryError()), ran_out_of_memory(ValueError("a mistake"))
        (True, False)
    """
    message = str(error)
    starved = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in message for words in STARVED)
    return starved or bool(should_reduce_batch_size(error))
