"""Write the table of settings in docs/configuration.md; with --check, only see that it is current."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sadcl_core.config.json_schema import all_settings
from sadcl_core.config.layers import Schema, describe, settings_of

PAGE = Path(__file__).parent / "configuration.md"
TABLE = re.compile(r"(<!-- settings: written by docs/generate.py -->\n).*(<!-- end of settings -->\n)", re.DOTALL)


def table(schema: Schema) -> str:
    """The settings in Markdown: a row each, under the section that they are in; those of the stages once."""
    lines: list[str] = []
    section = None
    for key, node, default in _settings(schema):
        if section != (section := key.partition(".")[0] if "." in key else ""):
            lines += _heading(section, schema)
        lines.append(f"| `{key}` | {default} | {_cell(describe(node))} | {_cell(node['description'])} |")
    return "\n".join(lines) + "\n"


def _settings(schema: Schema) -> Iterator[tuple[str, Schema, str]]:
    """Key, what is known of it, and its default."""
    stages = {name: settings_of(stage) for name, stage in schema["properties"]["stages"]["properties"].items()}
    for key, node in settings_of(schema).items():
        if node.get("type") != "object" and not key.startswith("stages."):
            yield key, node, _shown(node["default"])
    for key, node in next(iter(stages.values())).items():
        if node.get("type") != "object":
            defaults = dict.fromkeys(_shown(stage[key].get("default", 0.0)) for stage in stages.values())
            yield f"stages.NAME.{key}", node, ", then ".join(defaults)


def _heading(section: str, schema: Schema) -> list[str]:
    words = schema["properties"][section]["description"].rstrip(".") if section else "Of the run as a whole"
    words = f"{words[0].upper()}{words[1:]}."
    if section == "stages":
        names = " and ".join(f"`{name}`" for name in schema["properties"]["stages"]["properties"])
        words += f" `NAME` is one of {names}; where their defaults differ both are given."
    title = f"`{section}`" if section else "At the top"
    return ["", f"### {title}", "", words, "", "| key | default | takes | what it is |", "| --- | --- | --- | --- |"]


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower().replace('none', 'null')}`"
    return f"`{value}`" if value != "" else "`''`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Return 1 when `--check` finds a table that is not current."""
    page = PAGE.read_text(encoding="utf-8")
    current = TABLE.sub(lambda found: found[1] + table(all_settings()) + "\n" + found[2], page)
    if "--check" in arguments:
        if page != current:
            sys.stderr.write(f"{PAGE} is not current: run python docs/generate.py\n")
        return int(page != current)
    PAGE.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
