"""The flags of `sadcl train` and `sadcl compare`, which are keywords of the functions of the same names: one row each.

A row here is all that a flag needs: the command line makes its options from these rows, `flag_layers` the layers of settings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadcl_core.config.backbones import SIZES, backbone_of_size
from sadcl_core.config.json_schema import check_settings
from sadcl_core.config.layers import Layer, load_config_file, nest, parse_assignment
from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import UsageError
from sadcl_core.registry import suggest


@dataclass(frozen=True)
class Flag:
    """One flag.

    Attributes:
        setting: dotted key that it sets, `*` for every stage; empty for those that bring several settings.
        help: what it is, in one sentence.
        metavar: what stands for the value; of its type unless given.
        shared: taken by `compare`, too; else by `train` alone.
    """

    setting: str
    kind: type
    help: str
    metavar: str | None = None
    letter: str | None = None
    least: float | None = None
    most: float | None = None
    shared: bool = True


DEVICES, PRECISIONS = "auto|cpu|cuda|mps", "auto|fp32|bf16|fp16"
PRECISION_HELP = "auto: bf16 or fp16 on a GPU, else fp32."
WHOLE_BACKBONE = 64  # a stride that no backbone exceeds
FLAGS: dict[str, Flag] = {
    "method": Flag(
        "method",
        str,
        "What is trained; sadcl unless given, or named by a preset or model. NAME+s2s+p2s: with contrast.",
        shared=False,
    ),
    "preset": Flag("preset", str, "Recipe to start from; chosen from the data unless given."),
    "backbone": Flag("model.backbone", str, "Any timm model, such as resnet50."),
    "size": Flag("model.backbone", str, "Backbone of today, by size; --list-sizes shows them.", metavar="|".join(SIZES)),
    "pretrained": Flag(
        "model.pretrained", str, "Weights of the backbone: a .safetensors or .pth file, or the hub's.", metavar="FILE|hub"
    ),
    "no_pretrained": Flag("model.pretrained", bool, "Start from random weights."),
    "init_from": Flag(
        "model.init_from",
        Path,
        "Go on from a trained model, or another program's checkpoint, class by class name.",
        metavar="RUN_OR_FILE",
    ),
    "init_classes": Flag(
        "model.init_classes",
        str,
        "Names of the classes of --init-from, of another program's checkpoint.",
        metavar="coco|voc|FILE|A,B",
    ),
    "allow_overlap": Flag(
        "data.allow_overlap", bool, "Hold out images that the model of --init-from or a teacher was trained on."
    ),
    "class_map": Flag("model.class_map", Path, "Lines such as aeroplane: airplane, for --init-from.", metavar="FILE"),
    "frozen": Flag("features.once", bool, "Train the head alone, on features that are computed once."),
    "cache": Flag("features.cache", Path, "Folder of these features; in the user's cache unless given.", metavar="DIR"),
    "epochs": Flag("stages.*.epochs", str, "Epochs of every stage, or of each: 15,5.", metavar="N[,N]"),
    "time_budget": Flag(
        "optim.time_budget", str, "Time of the whole run, such as 10m: chooses the epochs.", metavar="TIME", shared=False
    ),
    "batch_size": Flag("data.batch_size", int, "Images a step.", letter="b", least=1),
    "limit": Flag("data.limit", int, "Use a part of the images, in which every class keeps its share.", metavar="N", least=1),
    "hide_labels": Flag(
        "data.hide_labels", float, "Hide a share of the training labels, for studies; 0.5: every other one.", metavar="SHARE"
    ),
    "img_size": Flag("data.img_size", int, "Side in pixels.", least=16, most=4096),
    "lr": Flag("stages.*.lr", float, "Peak learning rate of every stage."),
    "weight_decay": Flag("optim.weight_decay", float, "Of the optimiser."),
    "device": Flag("device", str, "Where to compute.", metavar=DEVICES),
    "precision": Flag("precision", str, PRECISION_HELP, metavar=PRECISIONS),
    "workers": Flag("data.workers", int, "Processes that read images.", letter="j", least=0, most=256),
    "seed": Flag("seed", int, "Of every random choice.", least=0, shared=False),
    "save_every": Flag(
        "save_every", int, "Keep a state to resume from also within epochs.", metavar="STEPS", least=0, shared=False
    ),
    "track": Flag(
        "track",
        str,
        "Follow the run in tensorboard, mlflow, wandb or trackio; several with commas, or none.",
        metavar="NAME,NAME",
    ),
    "compile": Flag("compute.compile", bool, "Compile the network with torch.compile.", shared=False),
    "accumulate": Flag(
        "compute.accumulate", int, "Cut every batch into parts, to save memory.", metavar="PARTS", least=1, shared=False
    ),
    "clip_grad": Flag("optim.clip_grad_norm", float, "Largest norm of a gradient; 0: any.", least=0, shared=False),
    "config": Flag("", Path, "YAML file, such as the config.yaml of a run.", metavar="FILE", letter="c"),
    "set": Flag("", list, "Any setting: --set optim.ema_decay=0.99.", metavar="KEY=VALUE"),
}


def flag_layers(**flags: Any) -> list[tuple[str, Layer]]:
    """Return what flags say as layers of settings, weakest first: the file, each `--set`, the other flags.

    Args:
        flags: by the names of FLAGS; None and a false `no_pretrained` say nothing. `config` is the path of a file; `set` is a
            sequence of `key=value`, or a mapping of dotted keys to values; `epochs` a number, a sequence, or text such as `15,5`.

    Raises:
        UsageError: there is no such flag or setting, a value is out of bounds, or two flags exclude each other.

    Example:
        >>> flag_layers(lr=1e-3, img_size=64, set=["optim.patience=3"])[0]
        ('--set', {'optim': {'patience': 3}})
        >>> flag_layers(epochs="15,5")[0][1]["stages"]
        {'classification': {'epochs': 15}, 'contrastive': {'epochs': 5}}
    """
    for name in flags:
        if name not in FLAGS:
            raise UsageError(f"There is no flag {name!r}. {suggest(name, FLAGS)}")
    given = {name: value for name, value in flags.items() if value is not None}
    config, assignments = given.pop("config", None), given.pop("set", ())
    layers: list[tuple[str, Layer]] = [] if config is None else [(str(config), load_config_file(Path(config)))]
    if isinstance(assignments, Mapping):
        layers.append(("--set", nest(assignments)))
    else:
        layers += [("--set", parse_assignment(text)) for text in assignments]
    settings: dict[str, Any] = {"model.freeze_stride": WHOLE_BACKBONE} if given.get("frozen") else {}
    for name, value in _start(given).items():
        setting = FLAGS[name].setting
        values = epoch_counts(value) if name == "epochs" else [str(value) if isinstance(value, Path) else value]
        keys = [setting.replace("*", stage) for stage in RunConfig().stages] if "*" in setting else [setting]
        settings.update(zip(keys, values * (len(keys) // len(values)), strict=True))
    layers.append(("flag", nest(settings)))
    check_settings(layers)
    return layers


def epoch_counts(epochs: str | int | Sequence[int]) -> list[int]:
    """Return the number of epochs for every stage, or the numbers of all stages.

    Raises:
        UsageError: it is neither.

    Example:
        >>> epoch_counts("20"), epoch_counts("15,5"), epoch_counts(3)
        ([20], [15, 5], [3])
    """
    parts, stages = str(epochs).strip("[()]").split(","), len(RunConfig().stages)
    if not all(part.strip().isdecimal() and len(part) < 20 for part in parts) or len(parts) not in (1, stages):
        raise UsageError(
            f"--epochs {str(epochs)[:40]!r} is not a number of epochs, or one for each of the {stages} stages. Write 20 or 15,5."
        )
    return [int(part) for part in parts]


def seconds(text: str) -> float:
    """Return the seconds of a length of time such as 90s, 10m, 1.5h or 600.

    Raises:
        UsageError: it is no length of time, or not positive.

    Example:
        >>> seconds("10m"), seconds("1.5h"), seconds("600")
        (600.0, 5400.0, 600.0)
    """
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*([smh]?)\s*", str(text).lower())
    if match is None or not float(match[1]) > 0:
        raise UsageError(f"--time-budget {text!r} is not a length of time. Write 90s, 10m or 2h.")
    return float(match[1]) * {"s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


def _start(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags without `size` and `no_pretrained`; weights asked for replace the model that a file goes on from."""
    flags = dict(given)
    if "size" in flags:
        if "backbone" in flags:
            raise UsageError("--size names a backbone, and so does --backbone. Give one of them.")
        flags["backbone"] = backbone_of_size(flags.pop("size"))
    if "time_budget" in flags:
        if "epochs" in flags:
            raise UsageError("--time-budget chooses the epochs, and --epochs gives them. Leave out one of the two.")
        flags["time_budget"] = seconds(flags["time_budget"])
    if flags.pop("no_pretrained", False):
        if flags.get("pretrained"):
            raise UsageError("--pretrained and --no-pretrained exclude each other. Give one of them.")
        flags["pretrained"] = False
    if "pretrained" in flags:
        if {"init_from", "init_classes", "class_map"} & set(flags):
            raise UsageError("--init-from brings the weights of the backbone. Leave out --pretrained and --no-pretrained.")
        hub = flags["pretrained"] == "hub"
        flags.update(init_from="", init_classes="", class_map="", pretrained=True if hub else flags["pretrained"])
    return flags
