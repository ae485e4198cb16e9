"""Settings that a sweep chooses, each with its range or its choices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sadcl_core.config.flags import FLAGS
from sadcl_core.config.json_schema import check_settings
from sadcl_core.config.layers import Layer, flatten, load_config_file, nest, parse_assignment, show
from sadcl_core.config.schema import RunConfig
from sadcl_core.config.yaml import on_one_line
from sadcl_core.errors import UsageError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
WIDE = 10  # a range whose ends are so many times apart is searched by factors, not by differences
FIRST = next(iter(RunConfig().stages))  # of which values are checked that are for every stage
OWN = ("seed", "track", "data.train_split", "data.eval_split", "optim.time_budget")  # that a sweep sets itself


@dataclass(frozen=True)
class Parameter:
    """One setting that is chosen.

    Attributes:
        key: dotted; `*` stands for every stage.
        low: least value, None where there are `choices`; both ends are integers where the setting is one.
        high: largest value.
        choices: values, where it is not a range.
    """

    key: str
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def log(self) -> bool:
        """True where values are drawn by factors.

        Example:
            >>> Parameter("optim.weight_decay", 1e-4, 1e-2).log, Parameter("optim.warmup", 0.1, 0.3).log
            (True, False)
        """
        return self.low is not None and self.high is not None and self.low > 0 and self.high / self.low >= WIDE

    def __str__(self) -> str:
        """Return it as it is written."""
        values = ",".join(map(on_one_line, self.choices)) if self.low is None else f"{self.low:g}..{self.high:g}"
        return f"{self.key}={values}"

    def includes(self, value: Any) -> bool:
        """Return whether a value is one of those to choose from."""
        if self.low is None or self.high is None:
            return value in self.choices
        return isinstance(value, int | float) and self.low <= value <= self.high


def parse_parameter(text: str) -> Parameter:
    """Read `KEY=LOW..HIGH` or `KEY=A,B,C`; KEY is a setting, or a flag such as lr.

    Raises:
        UsageError: it is neither, or there is no such setting.

    Example:
        >>> str(parse_parameter("lr=1e-4..1e-2")), parse_parameter("optim.patience=3,8").choices
        ('stages.*.lr=0.0001..0.01', (3, 8))
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not values:
        raise UsageError(f"--param {text[:60]!r} is not of the form KEY=LOW..HIGH or KEY=A,B. Write for example lr=1e-4..1e-2.")
    return _parameter(key, values, "--param")


def read_space(file: Path) -> list[Parameter]:
    """Read a YAML file of the same: `lr: 1e-4..1e-2`, or a list of values.

    Raises:
        UsageError: it cannot be read, or has nothing but settings with what they are chosen from.
    """
    table = load_config_file(file)
    space = [_parameter(key, value, str(file)) for name in table for key, value in flatten({name: table[name]}).items()]
    if not space:
        raise UsageError(f"{file} names no setting. Write lines such as lr: 1e-4..1e-2.")
    return space


def _parameter(key: str, values: Any, source: str) -> Parameter:
    """Return a setting with its range or its choices: text as in `parse_parameter`, or a list of values."""
    origin = f"{key}={values[:60] if isinstance(values, str) else show(values)} (from {source})"
    flag = FLAGS.get(key.replace("-", "_"))
    key = flag.setting if flag is not None and flag.setting else key.replace("-", "_")
    if key in OWN:
        raise UsageError(f"{origin} cannot be chosen: a sweep sets it itself. Leave it out.")
    if isinstance(values, str) and (ends := re.fullmatch(rf"({NUMBER})\.\.({NUMBER})", values)):
        whole = all(re.fullmatch(r"[-+]?\d+", end) for end in ends.groups())
        low, high = (int(end) if whole else float(end) for end in ends.groups())
        if not low < high:
            raise UsageError(f"{origin}: {ends[1]} is not below {ends[2]}. Write the lower end first.")
        parameter = Parameter(key, low, high)
    else:
        choices = values if isinstance(values, list) else []
        if isinstance(values, str):
            one = f"{key.replace('*', FIRST)}="
            choices = [next(iter(flatten(parse_assignment(one + part.strip(), source)).values())) for part in values.split(",")]
        if len(choices) < 2 or len(set(map(repr, choices))) < len(choices):
            raise UsageError(f"{origin} has nothing to choose from. Write LOW..HIGH, or different values: A,B.")
        parameter = Parameter(key, choices=tuple(choices))
    for value in parameter.choices or (parameter.low, parameter.high):
        check_settings([(source, settings_layer({key: value}))])
    return parameter


def settings_layer(values: Mapping[str, Any]) -> Layer:
    """Return chosen values as nested settings.

    Example:
        >>> settings_layer({"stages.*.lr": 0.001})["stages"]["contrastive"]
        {'lr': 0.001}
    """
    stages = RunConfig().stages
    return nest({key.replace("*", stage): value for key, value in values.items() for stage in (stages if "*" in key else ("",))})


def default_space(config: RunConfig, head_fields: Sequence[str]) -> tuple[Parameter, ...]:
    """Return the settings that are chosen by default: rates, weight decay, dropout of the head, focusing of inactive labels.

    The recipe is in the middle of each range; `head_fields` are names of the options of its head.

    Example:
        >>> [str(parameter) for parameter in default_space(RunConfig(), ["dropout"])][::2]
        ['stages.classification.lr=5e-06..0.0005', 'optim.weight_decay=0.0005..0.05', 'loss.asymmetric.gamma_neg=0..4']
    """
    space = [_around(f"stages.{name}.lr", config.stages[name].lr) for name in config.used_stages]
    if config.optim.weight_decay:
        space.append(_around("optim.weight_decay", config.optim.weight_decay))
    if "dropout" in head_fields:
        space.append(Parameter(f"model.heads.{config.model.head}.dropout", 0.0, 0.5))
    if any("asymmetric" in stage.weights and stage.gamma_neg is None for stage in config.stages.values()):
        space.append(Parameter("loss.asymmetric.gamma_neg", 0.0, 4.0))
    return tuple(space)


def _around(key: str, value: float) -> Parameter:
    return Parameter(key, float(f"{value / WIDE:.6g}"), float(f"{value * WIDE:.6g}"))


def recipe_values(space: Iterable[Parameter], recipe: Mapping[str, Any], stages: Sequence[str]) -> dict[str, Any]:
    """Return the values that a recipe has of what is chosen, without those outside, and those that differ between its stages.

    The recipe gives values by dotted key.

    Example:
        >>> recipe = {"stages.contrastive.lr": 0.001, "stages.classification.lr": 0.001}
        >>> recipe_values([parse_parameter("lr=1e-4..1e-2")], recipe, ["contrastive", "classification"])
        {'stages.*.lr': 0.001}
    """
    values = {}
    for parameter in space:
        first, *others = (recipe.get(parameter.key.replace("*", stage)) for stage in stages)
        if parameter.includes(first) and all(other == first for other in others):
            values[parameter.key] = first
    return values


def refuse_repeated(space: Iterable[Parameter]) -> None:
    """Raise a UsageError if a setting is named twice, for one stage or for all."""
    keys = [key for parameter in space for key in flatten(settings_layer({parameter.key: None}))]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"{key} is to be chosen twice. Name it once, with --param or in --space.")
