"""Things chosen by name, and where each is implemented: `"package.module:name"` is imported only when the row is used.

Listing the names imports nothing, so settings are checked, completed and documented without torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from sadcl_core.errors import UsageError

HEADS: dict[str, str] = {
    "sarl": "sadcl_core.model.heads.sarl:SARLHead",
    "mulcon": "sadcl_core.model.heads.mulcon:MulConHead",
    "pooled": "sadcl_core.model.heads.pooled:PooledHead",
    "csra": "sadcl_core.model.heads.csra:CSRAHead",
    "ml_decoder": "sadcl_core.model.heads.ml_decoder:MLDecoderHead",
    "generated": "sadcl_core.model.heads.generated:GeneratedHead",
    "add_gcn": "sadcl_core.model.heads.add_gcn:ADDGCNHead",
    "ssgrl": "sadcl_core.model.heads.ssgrl:SSGRLHead",
    "c_tran": "sadcl_core.model.heads.c_tran:CTranHead",
    "tdrg": "sadcl_core.model.heads.tdrg:TDRGHead",
    "adahgnn": "sadcl_core.model.heads.adahgnn:AdaHGNNHead",
    "sst": "sadcl_core.model.heads.sst:SSTHead",
    "p_gcn": "sadcl_core.model.heads.p_gcn:PGCNHead",
    "ms_cma": "sadcl_core.model.heads.ms_cma:MSCMAHead",
    "debiased": "sadcl_core.model.heads.debiased:DebiasedHead",
    "cpcl": "sadcl_core.model.heads.cpcl:CPCLHead",
    "rnn_att": "sadcl_core.model.heads.rnn_att:RNNAttHead",
}

TAKES_KNOWN = frozenset({"c_tran"})  # heads with `Head.TAKES_KNOWN`, said without torch

AUGMENTATIONS: dict[str, str] = {
    "none": "sadcl_core.data.transforms:no_augmentation",
    "shift-and-turn": "sadcl_core.data.transforms:shift_and_turn",
    "flip-and-crop": "sadcl_core.data.transforms:flip_and_crop",
    "cutout-randaugment": "sadcl_core.data.transforms:cutout_randaugment",
    "clipped-cutout-randaugment": "sadcl_core.data.transforms:clipped_cutout_randaugment",
    "random-resized": "sadcl_core.data.transforms:random_resized",
    "square-crops": "sadcl_core.data.transforms:square_crops",
    "square-crops-unflipped": "sadcl_core.data.transforms:square_crops_unflipped",
    "fixed-crops": "sadcl_core.data.transforms:fixed_crops",
}

TEST_VIEWS: dict[str, str] = {
    "none": "sadcl_core.data.transforms:no_views",
    "flip": "sadcl_core.data.transforms:mirrored_view",
    "crops": "sadcl_core.data.transforms:cropped_views",
}

TASKS: dict[str, str] = {  # files for programs in which people label
    "csv": "sadcl_core.inference.labelling_tasks:write_csv",
    "labelstudio": "sadcl_core.inference.labelling_tasks:write_label_studio",
    "cvat": "sadcl_core.inference.labelling_tasks:write_cvat",
    "fiftyone": "sadcl_core.inference.labelling_tasks:write_fiftyone",
}


def resolve(registry: Mapping[str, str], name: str, *, kind: str) -> Any:
    """Return the object that `registry[name]` points to.

    Raises:
        UsageError: there is no such row; the message lists what there is.
    """
    if name not in registry:
        raise UsageError(f"There is no {kind} called {name!r}. {suggest(name, registry)}")
    module, _, attribute = registry[name].partition(":")
    return getattr(import_module(module), attribute)


def suggest(name: str, known: Iterable[object]) -> str:
    """One sentence that names the nearest of `known`, or all of them when none is near."""
    names = [str(one) for one in known]
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Choose from: {', '.join(names)}."
