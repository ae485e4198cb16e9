"""The sentences of sadcl import."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sadcl_cli.console import one_line, show, warn
from sadcl_core.runtime.words import counted

if TYPE_CHECKING:
    from sadcl_core.runs.imports.import_checkpoint import Imported


def show_import(result: Imported) -> None:
    """Show what a file was recognised as, what was taken over and what was not, and what the file does not say."""
    card = result.card
    show(f"{one_line(str(result.source))} is of {result.format}: {result.reason}")
    network = f"{card.model.head} on {card.model.backbone}, {counted(len(card.classes), 'class', 'classes')}, {card.img_size} px"
    show(f"{network}; {result.tensors:,} tensors")
    reasons = defaultdict(list)
    for name, reason in result.dropped.items():
        reasons[reason].append(one_line(name))
    for reason, names in reasons.items():
        show(f"not taken over: {', '.join(names[:3])}{f' and {len(names) - 3:,} more' if len(names) > 3 else ''} ({reason})")
    for name, value in result.assumed.items():
        warn(f"the file does not say {name}: {value}")
    show(f"saved to {one_line(str(result.path))}")
