"""The command that prepares data, for messages that say what to type."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from shlex import join
from typing import Any

from sadcl_core.data.manifest import Manifest
from sadcl_core.data.prepare.dataset_spec import PREPARED, identify
from sadcl_core.data.prepare.reading_options import Options
from sadcl_core.data.prepare.same_data import given_before
from sadcl_core.errors import SadclError


def prepare_again(manifest: Manifest, **changes: Any) -> str:
    """Return the command that prepares data again as they were, but for some options of `prepare`.

    Example:
        >>> from sadcl_core.data.manifest import Description
        >>> from sadcl_core.data.rows import Rows
        >>> options = {"dataset": ["coco"], "absent": "-1", "drop": ["cat"]}
        >>> manifest = Manifest(Description("coco", Path("data"), ("dog",), options=options), Rows().table())
        >>> prepare_again(manifest, min_positives=10)
        'sadcl prepare-data coco --absent -1 --drop cat --min-positives 10'
    """
    description = manifest.description
    given = given_before(description, manifest.folder or Path())
    options = Options.stored(description.options)
    if description.options.get("divided") and options.division != Options.division:
        changes = {"split": options.division, **changes}
    changes = {"data": description.options.get("data"), **changes}
    return prepare_command(given or ["..."], options, description.name, manifest.folder, **changes)


def prepare_command(given: Sequence[str], options: Options, name: str, folder: Path | None, **changes: Any) -> str:
    """Return the command that prepares data of a name into a folder, with some options, each as of `prepare`."""
    known = {field.name: field.default for field in fields(options) if field.name not in ("division", "decode")}
    values = {key: getattr(options, key) for key in known} | changes
    with suppress(SadclError):  # the data may be gone
        values["name"] = "" if identify(given, data=None).name == name else name
    if folder is not None and folder.resolve() != (PREPARED / name).resolve():
        values["output"] = folder
    words = ["sadcl", "prepare-data", *map(_from_here, given)]
    for key, value in values.items():
        flag = f"--{key.replace('_', '-')}"
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is True:
                words.append(flag)
            elif one and one != known.get(key):
                words += [flag, _from_here(one) if key in ("data", "output") else str(one)]
    return join(words if options.decode else [*words, "--fast"])


def _from_here(path: str | Path) -> str:
    """Return a path below the current folder as a relative one; another text as it is."""
    with suppress(ValueError):
        return str(Path(path).relative_to(Path.cwd()))
    return str(path)
