"""From the options of train and compare to the layers of a configuration, and to the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadcl_cli.console import say, stages, verbosity, warn

if TYPE_CHECKING:
    from sadcl_core.config.automatic import Facts
    from sadcl_core.config.presets import Configured
    from sadcl_core.config.schema import Layer
    from sadcl_core.data.manifest import Manifest


def user_layers(
    *,
    config: Path | None,
    set_: Sequence[str] | None,
    backbone: str | None,
    pretrained: str | None,
    no_pretrained: bool,
    init_from: Path | None,
    class_map: Path | None,
    epochs: str | None,
    batch_size: int | None,
    img_size: int | None,
    lr: float | None,
    weight_decay: float | None,
    device: str | None,
    precision: str | None,
    workers: int | None,
    more: dict[str, Any] | None = None,
) -> list[tuple[str, Layer]]:
    """What the user said, weakest first: the file, --set, the flags; `more` are flags that only one command has.

    Raises:
        UsageError: a setting or a value is none, or two exclude each other; said before any long work.
    """
    from sadcl_core.config.json_schema import check_settings
    from sadcl_core.config.schema import RunConfig, load_config_file, parse_assignment

    stages, counts = list(RunConfig().stages), epoch_counts(epochs)
    flags: dict[str, Any] = {
        "model": {
            "backbone": backbone,
            "pretrained": _pretrained(pretrained, no_pretrained),
            "init_from": _start(init_from, starts_anew=no_pretrained or pretrained is not None),
            "class_map": _start(class_map, starts_anew=no_pretrained or pretrained is not None),
        },
        "data": {"batch_size": batch_size, "img_size": img_size, "workers": workers},
        "optim": {"weight_decay": weight_decay},
        "stages": {
            name: {"epochs": count, "lr": lr} for name, count in zip(stages, counts * (len(stages) // len(counts)), strict=True)
        },
        "device": device,
        "precision": precision,
    }
    layers: list[tuple[str, Layer]] = [] if config is None else [(str(config), load_config_file(config))]
    layers += [("--set", parse_assignment(text)) for text in set_ or []]
    layers += [("flag", _given(flags)), ("flag", _given(more or {}))]
    check_settings(layers)
    return layers


def find_data(dataset: str, data: Path | None) -> Manifest:
    """The manifest of a data set, prepared now unless that has been done, and a line on where it came from."""
    from sadcl_core.data.prepare.prepare import find_or_prepare

    with stages() as progress:
        taken = find_or_prepare(dataset, data=data, progress=progress)
    manifest, name = taken.manifest, taken.manifest.description.name
    say(f"data {name}: {taken.said}")
    for note in manifest.description.notes:
        say(f"data {name}: {note}")
    if taken.report is not None:
        from sadcl_cli.prepare_data import draw_report

        for finding in taken.report.findings:
            if finding.severity == "bad" or (finding.severity == "warning" and not verbosity.quiet):
                examples = f" ({', '.join(finding.examples[:3])})" if finding.examples else ""
                warn(f"{name}: {finding.count:,} {finding.text}{examples}")
        say(f"data {name}: more in {draw_report(manifest, taken.report)}")
    return manifest


def facts_of(manifest: Manifest, layers: Sequence[tuple[str, Layer]]) -> Facts:
    """What a recipe is chosen by: of the split that is trained on, and of the device that is asked for."""
    from sadcl_core.config.automatic import Facts
    from sadcl_core.config.schema import resolve_config
    from sadcl_core.data.statistics import median_short_side

    config = resolve_config(layers)[0]
    name = config.data.train_split
    if name not in manifest.splits:  # training says so in its own words
        return Facts(0, classes=len(manifest.classes))
    split = manifest.split(name)
    return Facts(
        images=len(split),
        classes=len(manifest.classes),
        short_side=median_short_side(split),
        device=_device_kind(config.device),
    )


def say_recipe(configured: Configured) -> None:
    """The preset, and what was chosen from the data with the reason of each."""
    say(f"preset {configured.config.preset}: {configured.why}")
    for what, why in configured.reasons:
        say(f"auto: {what} ({why})")


def _device_kind(asked: str) -> str:
    """The device: cpu, mps or cuda."""
    if asked != "auto":
        return asked.partition(":")[0]
    from sadcl_core.runtime.device import choose_device

    return choose_device(asked).type


def _pretrained(pretrained: str | None, no_pretrained: bool) -> bool | str | None:
    """What the flags say of model.pretrained; None when they say nothing."""
    from sadcl_core.errors import UsageError

    if pretrained and no_pretrained:
        raise UsageError("--pretrained and --no-pretrained exclude each other. Give one of them.")
    if no_pretrained:
        return False
    return True if pretrained == "hub" else pretrained


def _start(path: Path | None, *, starts_anew: bool) -> str | None:
    """What the flags say of model.init_from or model.class_map; other weights asked for take the place of what a file names."""
    from sadcl_core.errors import UsageError

    if path is not None and starts_anew:
        raise UsageError("--init-from brings the weights of the backbone. Leave out --pretrained and --no-pretrained.")
    return "" if starts_anew else None if path is None else str(path)


def epoch_counts(text: str | None) -> list[int | None]:
    """`20` is one number for every stage, `15,5` one for each.

    Raises:
        UsageError: it is neither.
    """
    from sadcl_core.config.schema import RunConfig
    from sadcl_core.errors import UsageError

    if text is None:
        return [None]
    parts, stages = text.split(","), len(RunConfig().stages)
    if not all(part.strip().isdecimal() for part in parts) or len(parts) not in (1, stages):
        raise UsageError(
            f"--epochs {text!r} is not a number of epochs, or one for each of the {stages} stages. Write 20 or 15,5."
        )
    return [int(part) for part in parts]


def _given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were used."""
    given: dict[str, Any] = {}
    for key, value in flags.items():
        if isinstance(value, dict):
            inner = _given(value)
            if inner:
                given[key] = inner
        elif value is not None:
            given[key] = value
    return given
