"""Pretrained weights of a backbone, from a file or from timm's hub, and a report of what matched.

Weights follow timm's names. A local file is read without running pickled code; a file that fits nowhere is an error and not a
fresh start.
"""

from __future__ import annotations

import json
import logging
import socket
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from timm.models import load_state_dict
from torch import Tensor

from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.model.backbone import Backbone, plain
from sadcl_core.runtime.files import weights_file

NUMPY_SCALARS: list[Any] = [
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # of NumPy 1 and 2
    np.dtype,
    *(type(np.dtype(letter)) for letter in "?bBhHiIlLqQefd"),
]
UNNAMED = "another backbone"
UNUSED = 0.1  # share of a file's tensors that may be of no use, as those of a classifier are
MISSING = 0.4  # share of a backbone's tensors that may be missing; of a relative about half fit by accident


@dataclass(frozen=True)
class LoadedWeights:
    """Result of loading pretrained weights.

    Attributes:
        source: file or hub name.
        matched: number of tensors of the backbone that the source has.
        missing: tensors of the backbone that it lacks.
        unused: tensors of the source that the backbone does not need.
        other: name of another model whose weights the source seems to hold, where it lacks tensors or has many more; else empty.
    """

    source: str
    matched: int
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    other: str = ""


@dataclass(frozen=True)
class WeightsSource:
    """Description of the weights that a backbone is to start from.

    Attributes:
        parameters: their number.
        file: the file of the weights; empty if they come from the hub, or from nowhere.
        hub: their name in the hub; empty if they do not come from there.
        licence: of the hub's weights, as timm names it; empty if it does not.
        cached: True if they were fetched before.
    """

    backbone: str
    parameters: int
    file: str = ""
    hub: str = ""
    licence: str = ""
    cached: bool = False


def weights_source(backbone: Backbone, pretrained: bool | str) -> WeightsSource:
    """Return what `load_pretrained` would load, and under which licence; fetch nothing.

    Example:
        >>> backbone = Backbone("test_resnet", stride=32, img_size=64)
        >>> source = weights_source(backbone, True)
        >>> source.hub, source.licence
        ('timm/test_resnet.r160_in1k', 'apache-2.0')
    """
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    if not isinstance(pretrained, bool):
        return WeightsSource(backbone.name, parameters, file=pretrained)
    config = backbone.pretrained_config if pretrained else {}
    hub = str(config.get("hf_hub_id") or "")
    return WeightsSource(backbone.name, parameters, hub=hub, licence=str(config.get("license") or ""), cached=_is_cached(hub))


def load_pretrained(backbone: Backbone, pretrained: bool | str) -> LoadedWeights | None:
    """Load the weights that `model.pretrained` names: a file, timm's own (True) or none (False)."""
    if isinstance(pretrained, str):
        return load_file(backbone, Path(pretrained))
    return load_from_hub(backbone) if pretrained else None


def load_file(backbone: Backbone, path: Path) -> LoadedWeights:
    """Load a .safetensors or .pth file with timm's names.

    Raises:
        DataError: the file is missing, holds no weights, or fits nowhere.
    """
    return load_tensors(backbone, read_tensors(path), source=str(path))


def read_tensors(path: Path, *, ema: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or .pth file by their names; nothing that is pickled is run.

    `ema`: take the averaged weights where the file has both.

    Raises:
        DataError: the file is missing, or holds no weights that can be loaded safely.
    """
    weights_file(path)
    try:
        _refuse_grown(path)
        with torch.serialization.safe_globals(NUMPY_SCALARS):  # a best mAP beside the weights
            stored: dict[str, Tensor] = load_state_dict(str(path), use_ema=ema, weights_only=True)
        for tensor in stored.values():
            _refuse_larger_than_stored(tensor)
    except Exception:  # the unpickler passes on whatever a damaged file makes it raise
        raise DataError(
            f"{path} holds no weights that can be loaded safely. Give a .safetensors file or a .pth of tensors, as "
            "torch.save(model.state_dict(), FILE) writes; a whole model would run code."
        ) from None
    return stored


def _refuse_grown(path: Path) -> None:
    """Raise a ValueError if an archive claims to hold more than it is long: torch compresses nothing, and a bomb does."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > size:
                raise ValueError("it holds more than it is long")


def _refuse_larger_than_stored(tensor: object) -> None:
    """Raise a ValueError for a tensor that takes more memory than was read for it: sparse, expanded or without any."""
    if isinstance(tensor, Tensor) and (
        tensor.layout is not torch.strided
        or tensor.is_meta
        or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()
    ):
        raise ValueError("a tensor is larger than what is stored of it")


def load_from_hub(backbone: Backbone) -> LoadedWeights:
    """Load timm's default weights, from the cache or the hub.

    Raises:
        MachineError: they are not in the cache and the hub cannot be reached; the message names the file to fetch.
        UsageError: timm has none for this model.
    """
    hub_name = str(backbone.pretrained_config.get("hf_hub_id") or "")
    if not hub_name:
        raise UsageError(
            f"timm has no pretrained weights for {backbone.name}. Train with --no-pretrained or choose another backbone."
        )
    advice = (
        f"Fetch model.safetensors of {hub_name} ({constants.ENDPOINT}/{hub_name}/resolve/main/model.safetensors) on another "
        "machine and pass it with --pretrained FILE, or start from random weights with --no-pretrained."
    )
    if not _is_cached(hub_name) and not _hub_reachable():
        raise MachineError(
            f"The pretrained weights of {backbone.name} are not on this machine and the hub cannot be reached. {advice}"
        )
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        weights = timm.create_model(backbone.name, pretrained=True).state_dict()
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise MachineError(
            f"The pretrained weights of {backbone.name} could not be fetched ({type(error).__name__}). {advice}"
        ) from None
    return load_tensors(backbone, weights, source=hub_name)


def load_tensors(backbone: Backbone, stored: dict[str, Tensor], *, source: str) -> LoadedWeights:
    """Give a backbone the tensors that fit it by name and shape; the others stay as they are.

    Raises:
        DataError: none fits, or one of a frozen layer is missing, which would stay random for ever.
    """
    stored = backbone.convert(stored)
    own = backbone.net.state_dict()
    spelt = {plain(name): name for name in stored}
    fitting = {}
    for key, tensor in own.items():
        match = stored.get(spelt.get(plain(key), ""))
        if isinstance(match, Tensor) and match.shape == tensor.shape:
            fitting[key] = match
    counted = [key for key in own if not key.endswith("num_batches_tracked")]
    missing = tuple(key for key in counted if key not in fitting)
    if len(missing) == len(counted):
        raise DataError(
            f"{source} has no tensor that fits {backbone.name}. Give weights of this backbone, or choose theirs with --backbone."
        )
    if len(missing) > MISSING * len(counted):
        raise DataError(
            f"{source} seems to hold the weights of {likely_backbone(source)}: {len(missing):,} of the {len(counted):,} tensors "
            f"of {backbone.name} are not in it. Give weights of {backbone.name}, or choose theirs with --backbone."
        )
    frozen = {id(tensor) for module in backbone.frozen for tensor in module.parameters()}
    random = [key for key, tensor in backbone.net.named_parameters() if key in missing and id(tensor) in frozen]
    if random:
        raise DataError(
            f"{source} lacks {random[0]} of the layers that are frozen. Give weights of {backbone.name}, "
            "or freeze nothing: --set model.freeze_stride=0."
        )
    backbone.net.load_state_dict({**own, **fitting})
    used = {spelt[plain(key)] for key in fitting}
    unused = tuple(sorted(set(stored) - used))
    likely = likely_backbone(source) if missing or len(unused) > UNUSED * len(stored) else UNNAMED
    other = "" if likely in (UNNAMED, backbone.name.partition(".")[0]) else likely
    return LoadedWeights(source, len(counted) - len(missing), missing, unused, other)


def _is_cached(hub_name: str) -> bool:
    files = ("model.safetensors", "pytorch_model.bin")
    return bool(hub_name) and any(isinstance(try_to_load_from_cache(hub_name, name), str) for name in files)


def likely_backbone(source: str) -> str:
    """Return the name of the model whose weights a file seems to hold: as config.json beside it says, else as it is called."""
    path = Path(source)
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.with_name("config.json").read_text(encoding="utf-8"))["architecture"])
    stem = path.name.lower().replace("-", "_")
    names = [name for name in timm.list_models() if stem.startswith(name)]
    return max(names, key=len, default=UNNAMED)


def _hub_reachable() -> bool:
    try:
        socket.getaddrinfo(urlparse(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
