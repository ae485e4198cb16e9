"""A network in several processes: a copy in each of them, or cut into shards of which each holds one.

Copies: accelerate wraps the network for DistributedDataParallel. Shards: torch's `fully_shard` (FSDP2), for networks whose
weights, gradients and optimiser do not fit into one GPU; accelerate's own FSDP refuses to work without GPUs, where it could be
tested. Weights are saved whole either way, so a run may go on with another number of processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import DistributedDataParallelKwargs
from timm.layers.norm_act import convert_sync_batchnorm
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import UsageError
from sadcl_core.model.classifier import Classifier
from sadcl_core.runtime.distributed import is_distributed
from sadcl_core.training.terms import TrainingStep

MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # precision, as accelerate calls it


def start_accelerate(device: torch.device, precision: str) -> Accelerator:
    """Return the accelerator of a run on the device of this process; the state of an earlier run in it is dropped."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    if device.type == "cuda" and device.index is not None and not is_distributed():
        torch.cuda.set_device(device)
    with_buffers = DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)
    return Accelerator(mixed_precision=MIXED[precision], cpu=device.type == "cpu", kwargs_handlers=[with_buffers])


def check_compute(config: RunConfig, precision: str) -> None:
    """Refuse settings that do not go together.

    Raises:
        UsageError: `compute.shard` in one process, in fp16, with `compute.compile` or with LoRA.
    """
    if config.compute.shard and not is_distributed():
        raise UsageError("compute.shard cuts a network over several processes. Start them with torchrun, or leave it off.")
    if config.compute.shard and (precision == "fp16" or config.compute.compile):
        raise UsageError("compute.shard goes with --precision bf16 or fp32, and without --compile.")
    if config.compute.shard and config.optim.lora_rank:
        raise UsageError("compute.shard cuts whole layers, and optim.lora_rank adapts them. Leave one of both out.")


def make_ready(classifier: Classifier, config: RunConfig) -> None:
    """Apply the compute section of the configuration to a network, before it is copied or wrapped.

    Raises:
        UsageError: timm has no gradient checkpointing for the backbone.
    """
    compute = config.compute
    classifier.backbone.set_memory_format(torch.channels_last if compute.channels_last else torch.contiguous_format)
    if compute.gradient_checkpointing:
        classifier.backbone.checkpoint_gradients()
    if compute.compile:
        classifier.compile()


def make_ema(classifier: Classifier, config: RunConfig, *, warmup: bool) -> ModelEmaV3:
    """Make the EMA of a network's weights; shards are updated one by one, since lists of tensors may not mix kinds."""
    optim = config.optim
    copied = 0 if optim.ema_start == "after-first-step" else -1  # timm copies the weights after the step that follows this one
    return Ema(classifier, decay=optim.ema_decay, use_warmup=warmup, foreach=not config.compute.shard, update_after_step=copied)


class Ema(ModelEmaV3):
    """EMA of a classifier without its frozen part, which is the same in both and can be most of the network."""

    pairs: list[tuple[Tensor, Tensor]] | None = None  # tensors here and in the model, from the first step of a stage on

    def apply_update_(self, model: Classifier, decay: float) -> None:
        """Move every tensor that can change towards that of the model."""
        if self.pairs is None:
            backbone = model.backbone
            frozen = [backbone.net] if backbone.frozen_entirely else backbone.frozen
            same = {id(tensor) for part in frozen for tensor in part.state_dict(keep_vars=True).values()}
            same |= {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
            averaged, tensors = self.module.state_dict(), model.state_dict(keep_vars=True)
            self.pairs = [(averaged[name], tensor.detach()) for name, tensor in tensors.items() if id(tensor) not in same]
        floats = [pair for pair in self.pairs if pair[0].is_floating_point()]
        if self.foreach:
            own, new = [tensor for tensor, _ in floats], [target for _, target in floats]
            self._foreach_lerp_(own, new, 1 - decay)
        else:
            for tensor, target in floats:
                self._lerp_(tensor, target, 1 - decay)
        for tensor, target in self.pairs:
            if not tensor.is_floating_point():
                tensor.copy_(target)


def wrap(accelerator: Accelerator, step: TrainingStep, optimizer: Optimizer, *, config: RunConfig) -> tuple[nn.Module, Optimizer]:
    """Return the module and the optimiser wrapped for one process or several."""
    if not config.compute.shard:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # accelerate has no other option yet
            model, wrapped = accelerator.prepare(step, optimizer)
        return model, wrapped
    return step, accelerator.prepare_optimizer(optimizer)


def share_batchnorm(classifier: Classifier, *, frozen: bool) -> None:
    """Let BatchNorm see the whole batch of several GPUs; on CPUs torch cannot, and statistics are averaged once an epoch.

    That of the head is always trained; that of the backbone may be frozen.
    """
    if is_distributed() and next(classifier.parameters()).device.type == "cuda":
        for part, name in ((classifier, "head"), *([] if frozen else [(classifier.backbone, "net")])):
            network = getattr(part, name)
            if not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules()):
                setattr(part, name, convert_sync_batchnorm(network))


def shard(classifier: Classifier) -> None:
    """Cut the weights of a network into shards, in place: each block of the backbone and each layer of the head by itself."""
    classifier.backbone.set_memory_format(torch.contiguous_format)  # what is cut has to lie in one piece
    for part in (classifier.backbone.net, classifier.head):
        for module in part.modules():
            if isinstance(module, nn.ModuleList | nn.Sequential):
                for block in module:
                    if any(True for _ in block.parameters()) and not _sharded(block):
                        fully_shard(block)
    fully_shard(classifier)


def _sharded(module: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def full_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """Return the state of a module on every process, put together from shards."""
    return {name: full_tensor(tensor) for name, tensor in module.state_dict().items()}


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a tensor put together from shards, or as it is if it has none."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Return `tensor` in shards as `other` is, or unchanged if `other` is not."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor.detach().to(other.device), other.device_mesh, other.placements)


@torch.no_grad()
def load_full_state_dict(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load what `full_state_dict` returned into a module, in shards or not; no name may be missing."""
    own = module.state_dict()
    module.load_state_dict({name: shard_like(tensor, own[name]) if name in own else tensor for name, tensor in tensors.items()})
