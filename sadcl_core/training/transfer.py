"""Start from a trained model with other classes: shared weights are carried over, those of a class by its name.

As the VOC models of SADCL (ECAI 2023) start from the COCO model: backbone, encoder, decoder and projection, and for each class
the query, the row of the classifier and the prototype of the class of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sadcl_core.config.layers import Layer, flatten, nest
from sadcl_core.config.methods import METHODS
from sadcl_core.config.presets import PRESETS
from sadcl_core.config.schema import ModelSection
from sadcl_core.data.class_names import load_class_map, match_classes
from sadcl_core.errors import DataError, NotFiniteError
from sadcl_core.inference.load import read_card_of_init
from sadcl_core.model.classifier import Classifier
from sadcl_core.runs.checkpoint import LoadedModel, load_model
from sadcl_core.runs.run_directory import find_model

NETWORK = (
    "backbone",
    "stride",
    "head",
    "heads",
    "global_branch",
    "projection_width",
)  # settings of a model that its weights need


@dataclass(frozen=True)
class Transfer:
    """Record of what was carried over.

    Attributes:
        classes: each class here with the one there whose weights it starts from, or None where it starts at random.
        random: tensors, other than those of new classes, that the file does not have in this shape.
        words: vector there of each class that has the same name there, for heads that read words.
    """

    source: str
    classes: tuple[tuple[str, str | None], ...]
    random: tuple[str, ...]
    words: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def matched(self) -> int:
        """Number of classes that start from one there."""
        return sum(there is not None for _, there in self.classes)


def with_network_of_init(layers: Sequence[tuple[str, Layer]]) -> list[tuple[str, Layer]]:
    """Put the network of the model that `model.init_from` names below the user's layers, as a file, so that its weights fit.

    Its method comes along unless the user or the preset names one; of its head nothing that a method of another name decides.
    Its image size comes along unless a preset is named.

    Raises:
        DataError: there is no such model.
        UsageError: a checkpoint of another program does not say something that is not given.
    """
    given = {key: value for _, layer in layers for key, value in flatten(layer).items()}
    card = read_card_of_init(given)
    if card is None:
        return list(layers)
    init_from = str(given["model.init_from"])
    fitting = [name for name, row in METHODS.items() if row.head == card.model.head]
    own = str(card.trained.get("method", ""))
    own = own if own.partition("+")[0] in METHODS else fitting[0]
    named = str(given.get("preset") or "")
    recipe = PRESETS[named].layer if named in PRESETS else {}
    method = given.get("method", recipe.get("method", own))
    values = {f"model.{name}": getattr(card.model, name) for name in NETWORK}
    if not named:
        values["data.img_size"] = card.img_size
    network = flatten(nest(values))
    if method != own:
        decided = flatten(METHODS[base].layer) if (base := str(method).partition("+")[0]) in METHODS else {}
        network = {key: value for key, value in network.items() if key not in decided}
    elif "method" not in given and "method" not in recipe:
        network["method"] = own
    return [(f"init-from {init_from}", nest(network)), *layers]


def transfer(classifier: Classifier, config: ModelSection, *, classes: tuple[str, ...], img_size: int) -> Transfer:
    """Give a classifier the weights of the model that `config.init_from` names, but not what a head counted in its data.

    Raises:
        DataError: there is no such model, or it has another backbone.
        UsageError: the class map cannot be read, or does not fit the classes.
    """
    path, _ = find_model(Path(config.init_from))
    source = load_model(path, img_size=img_size, classes=config.init_classes)
    if source.card.model.backbone != config.backbone:
        raise DataError(
            f"{path} has another backbone, {source.card.model.backbone} and not {config.backbone}: nothing of it can be "
            "carried over. Leave --backbone out, or give a model with this one."
        )
    broken = next((name for name, tensor in source.classifier.state_dict().items() if not tensor.isfinite().all()), None)
    if broken is not None:
        raise NotFiniteError(f"{path} has numbers that are not finite in {broken}: it is damaged, or its training diverged.")
    class_map = load_class_map(Path(config.class_map)) if config.class_map else None
    matches = match_classes(classes, source.card.classes, class_map)
    random = _copy(classifier, source, matches)
    head, words = source.classifier.head, {}
    if type(head) is type(classifier.head) and "words" in head.FROM_DATA:
        words = {name: row for name, row in zip(source.card.classes, head.words, strict=True) if name in classes}
    return Transfer(str(path), tuple((name, matches[name]) for name in classes), random, words)


@torch.no_grad()
def _copy(classifier: Classifier, source: LoadedModel, matches: Mapping[str, str | None]) -> tuple[str, ...]:
    """Copy the parts that fit, in place, and return the names of the tensors without any."""
    own, theirs = classifier.state_dict(), source.classifier.state_dict()  # the tensors themselves, not copies
    head = classifier.head
    if type(head) is not type(source.classifier.head):  # label features of another kind: only the backbone is common
        theirs = {name: tensor for name, tensor in theirs.items() if name.startswith("backbone.")}
    per_pair = {f"head.{name}" for name in head.PER_PAIR}
    rows = [(here, source.card.classes.index(there)) for here, there in enumerate(matches.values()) if there is not None]
    random = []
    for name, tensor in own.items():
        other = theirs.get(name)
        first = 2 if name in per_pair else 1 if name in classifier.per_class else 0
        if name.removeprefix("head.") in head.FROM_DATA:
            continue  # counted in the training split of this run
        if other is None or other.shape[first:] != tensor.shape[first:]:
            random.append(name)
        elif not first:
            tensor.copy_(other)
        elif rows:
            here, there = (torch.tensor(numbers) for numbers in zip(*rows, strict=True))
            if first == 2:
                tensor[here[:, None], here] = other[there[:, None], there]
            else:
                tensor[here] = other[there]
    return tuple(random)
