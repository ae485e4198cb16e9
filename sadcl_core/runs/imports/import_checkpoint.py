"""Turn a checkpoint of another program into a model file of this one, every tensor accounted for."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from shlex import quote
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from sadcl_core.config.layers import Layer, nest, parse_assignment, resolve_config
from sadcl_core.config.schema import ModelSection, RunConfig
from sadcl_core.data.formats import coco, voc
from sadcl_core.data.prepare.reading_options import class_names
from sadcl_core.errors import DataError, UsageError
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.weights import load_tensors, read_tensors
from sadcl_core.runs.checkpoint import ModelCard, save_model
from sadcl_core.runs.imports import csra, linear, ml_decoder, mulcon, query2label, sadcl
from sadcl_core.runs.imports.backbones import FoundBackbone, find_backbone, pools_by_mean
from sadcl_core.runs.imports.converted import Converted
from sadcl_core.runs.run_directory import FINISHED, RunDirectory

FORMATS: tuple[ModuleType, ...] = (sadcl, query2label, mulcon, ml_decoder, csra, linear)
CLASSES: dict[str, tuple[str, ...]] = {"coco": coco.CLASSES, "voc": tuple(voc.CLASSES)}
BY_COUNT = {len(names): name for name, names in CLASSES.items()}
SCHEMA_VERSION = 1  # of the JSON document
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes:
        path: the model file that was written, or the file itself where none was.
        format: what the file was recognised as.
        reason: by what.
        tensors: how many were taken over.
        dropped: tensors that were not, with the reason.
        assumed: settings that the file does not say, with the value and where it is from.
    """

    source: Path
    path: Path
    card: ModelCard
    format: str
    reason: str
    tensors: int
    dropped: dict[str, str] = field(default_factory=dict)
    assumed: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return it as for JSON."""
        card = self.card.model_dump(include={"classes", "img_size", "mean", "std", "model"})
        return {
            "schema_version": SCHEMA_VERSION,
            **asdict(self),
            "card": card,
            "source": str(self.source),
            "path": str(self.path),
        }


def import_checkpoint(
    file: str | Path,
    output: str | Path,
    *,
    classes: str = "",
    backbone: str = "",
    img_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    settings: Sequence[str] = (),
    ignore: Sequence[str] = (),
    exist_ok: bool = False,
) -> Imported:
    """Turn a checkpoint of SADCL, Query2Label, MulCon, ML-Decoder, ASL, CSRA, timm or torchvision into a model of this project.

    Args:
        file: .pth or .safetensors; nothing that is pickled in it is run.
        output: folder of a new run, or a .safetensors file.
        classes: their names in order: coco, voc, a file with one a line, or names with commas between them.
        backbone: a model of timm, where it is not known by the file.
        img_size: side of the images in pixels, where the file does not say it.
        mean: of each channel of the images, 0..1; by default that of the paper, or of the backbone.
        std: of each channel.
        settings: what the file does not say, as `model.heads.csra.attention_weight=0.5`.
        ignore: patterns of names of tensors that are left out, as `proj.*`.
        exist_ok: replace a run that is there.

    Raises:
        DataError: the file cannot be read safely, its format or backbone is not known, or a tensor has no place.
        UsageError: something that the file does not say is not given.
    """
    file, output = Path(file), Path(output)
    run = None if output.suffix == ".safetensors" else RunDirectory(output)
    if run is not None:
        run.refuse_existing(exist_ok=exist_ok)
    classifier, read = read_checkpoint(
        file, classes=classes, backbone=backbone, img_size=img_size, mean=mean, std=std, settings=settings, ignore=ignore
    )
    path = output if run is None else run.best
    if run is not None:
        run.create(exist_ok=exist_ok)
    save_model(path, classifier.state_dict(), read.card)
    if run is not None:
        run.write_status(status=FINISHED, ended=f"imported from {file.name}")
    return replace(read, path=path)


def read_checkpoint(
    file: Path,
    *,
    classes: str = "",
    backbone: str = "",
    img_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    settings: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> tuple[Classifier, Imported]:
    """Read what `import_checkpoint` writes, and write nothing; arguments and errors are its own."""
    stored = read_tensors(file, ema=True)
    ignored = {name: "left out by --ignore" for name in stored if any(fnmatch.fnmatchcase(name, p) for p in ignore)}
    kept = {name: tensor for name, tensor in stored.items() if name not in ignored}
    source = find_backbone(kept, backbone, file)
    form, reason = recognise(source.rest, source.channels, file)
    converted = form.convert(source.rest, source.channels)
    _refuse_left(set(source.rest) - converted.used - set(converted.dropped), form, file)
    names = _names(classes, converted.classes, file)
    config = _settings(converted, source, img_size=img_size, settings=settings, file=file)
    classifier = _build(config, converted, source, file)
    config_of_weights = classifier.backbone.pretrained_config
    usual = ([converted.pixels[0]] * 3, [converted.pixels[1]] * 3) if converted.pixels else None
    card = ModelCard(
        classes=names,
        img_size=config.data.img_size,
        mean=tuple(mean or (usual[0] if usual else config_of_weights.get("mean") or (0.485, 0.456, 0.406))),
        std=tuple(std or (usual[1] if usual else config_of_weights.get("std") or (0.229, 0.224, 0.225))),
        model=config.model,
        has_prototypes="prototypes" in converted.tensors,
        trained={
            "dataset": file.name,
            "img_size": _trained_size(converted, source) or config.data.img_size,
            "method": form.METHOD,
            "imported_from": form.NAME,
        },
    )
    values = {"mean": mean or f"{list(card.mean)}", "std": std or f"{list(card.std)}"}
    where = f"of {form.NAME}" if converted.pixels else f"of timm's {config.model.backbone}"
    assumed = {name: f"{value}, {where}" for name, value in values.items() if isinstance(value, str)}
    named = {text.partition("=")[0] for text in settings}
    assumed |= {name: value for name, value in converted.assumed.items() if name not in named}
    dropped = {**ignored, **converted.dropped}
    return classifier.eval(), Imported(file, file, card, form.NAME, reason, len(stored) - len(dropped), dropped, assumed)


@lru_cache(maxsize=8)
def card_of_checkpoint(path: Path, classes: str, img_size: int | None, *, modified: int) -> ModelCard:
    """Return the card of a checkpoint, read once for a file as it was `modified` (nanoseconds)."""
    return open_checkpoint(path, classes=classes, img_size=img_size)[1].card


def open_checkpoint(path: Path, *, classes: str, img_size: int | None) -> tuple[Classifier, Imported]:
    """Read a checkpoint in the place of a model file, where options of the import are not at hand."""
    try:
        return read_checkpoint(path, classes=classes, img_size=img_size)
    except (DataError, UsageError) as error:
        if "--" in str(error):
            command = f"sadcl import {quote(str(path))} -o RUN"
            message = f"{error} An option that this command lacks is an option of {command}; then name that run."
            raise type(error)(message) from None
        raise


def _trained_size(converted: Converted, source: FoundBackbone) -> int:
    """Return the side of the images of the training in pixels; 0 where the file does not say it."""
    return (converted.map_height or 0) * source.stride


def recognise(tensors: Mapping[str, Tensor], channels: int, file: Path) -> tuple[ModuleType, str]:
    """Return the format of tensors beside a backbone of this many channels, and by what it is recognised.

    Raises:
        DataError: none has such tensors.
    """
    for form in FORMATS:
        reason = form.recognises(tensors, channels)
        if reason:
            return form, reason
    raise DataError(
        f"{file}: beside the backbone there are {_some(tensors) or 'no tensors'}, which no format that is known has. "
        f"Known are {', '.join(form.NAME for form in FORMATS)}; leave tensors out with --ignore PATTERN."
    )


def _some(names: Mapping[str, Tensor] | set[str]) -> str:
    first = sorted(names)[:SHOWN]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more:,} more" if more else "")


def _refuse_left(left: set[str], form: ModuleType, file: Path) -> None:
    if left:
        raise DataError(
            f"{file} is of {form.NAME}, and {_some(left)} have no place in its network. Leave them out, if they are not "
            f"needed: --ignore '{min(left)}'."
        )


def _names(classes: str, count: int, file: Path) -> tuple[str, ...]:
    """Return the names of the classes of a file with this many."""
    if not classes:
        guess = BY_COUNT.get(count, "FILE")
        raise UsageError(f"{file} has {count:,} classes and no names of them. Name them: --classes {guess}.")
    names = CLASSES.get(classes) or class_names(classes)
    if len(names) != count:
        raise UsageError(f"{file} has {count:,} classes, and --classes {classes[:60]} names {len(names):,}. Give theirs.")
    return names


def _settings(
    converted: Converted, source: FoundBackbone, *, img_size: int | None, settings: Sequence[str], file: Path
) -> RunConfig:
    """Return the settings of the model and its images; what the file does not say must be given."""
    if converted.head == "csra" and not any(text.startswith(csra.LAMBDA) for text in settings):
        raise UsageError(
            f"{file} does not say CSRA's lambda. Give that of its training: --set {csra.LAMBDA}=0.1, as published for VOC 2007, "
            "or 0.5 for COCO."
        )
    stride = source.stride
    size = img_size or _trained_size(converted, source)
    if not size:
        raise UsageError(f"{file} does not say the size of its images. Give it: --img-size 448.")
    model = {"model.backbone": source.name, "model.stride": stride, "model.head": converted.head, "model.pretrained": False}
    model |= {"model.freeze_stride": 0} | {f"model.{name}": value for name, value in converted.settings.items()}
    model |= {f"model.heads.{converted.head}.{name}": value for name, value in converted.options.items()}
    layers: list[tuple[str, Layer]] = [("the file", nest({**model, "data.img_size": size}))]
    return resolve_config([*layers, *(("--set", parse_assignment(text)) for text in settings)])[0]


def _build(config: RunConfig, converted: Converted, source: FoundBackbone, file: Path) -> Classifier:
    """Return the classifier with the weights of the file; compared on the way with what the file's own network pools."""
    section: ModelSection = config.model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of a projection that the file does not have
        classifier = Classifier(section, num_classes=converted.classes, img_size=config.data.img_size)
    loaded = load_tensors(classifier.backbone, source.tensors, source=str(file))
    if loaded.missing:
        raise DataError(
            f"{file} lacks {len(loaded.missing):,} tensors of {section.backbone}, {loaded.missing[0]} for one. "
            "Choose its backbone with --backbone."
        )
    if converted.head == "pooled" and not pools_by_mean(classifier.backbone, source, config.data.img_size):
        raise DataError(
            f"{file}: {section.backbone} does more between its feature map and its linear layer than the head pooled does, "
            "so it would give other scores here. It cannot be imported."
        )
    own = classifier.state_dict()
    wrong = [name for name, tensor in converted.tensors.items() if name not in own or own[name].shape != tensor.shape]
    wrong += [name for name in own if name.startswith("head.") and name not in converted.tensors]
    if wrong:
        raise DataError(f"{file}: its tensors do not fit together, {wrong[0]} for one. It is damaged, or of another version.")
    classifier.assign({**own, **converted.tensors})
    return classifier
