"""sadcl doctor: what this machine has, and what went wrong in a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sadcl_cli.console import counting, new_table, say, show, show_json, show_table, verbosity
from sadcl_cli.options import BatchSize, Debug, Device, Json, Quiet, Verbose, Workers, complete_run
from sadcl_core.errors import UsageError

if TYPE_CHECKING:
    from sadcl_core.diagnosis.checks import Checked
    from sadcl_core.diagnosis.environment import Environment
    from sadcl_core.diagnosis.evidence import Evidence

SCHEMA_VERSION = 1
IMAGES = 1000


def doctor(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            help="A run that went badly; only the machine unless given.",
            autocompletion=complete_run,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIR", help="Where the run's images lie now, if they moved.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Held-out images that are scored at most.")] = IMAGES,
    device: Device = "auto",
    batch_size: BatchSize = 32,
    workers: Workers = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Report what this machine has for training and, of a RUN, what is probably wrong with it, the worst first.

    Each finding comes with its numbers and one thing to do. The exit code is 0 whatever is found.
    """
    if run is None and data is not None:
        raise UsageError("--data says where the images of a run are. Name the run: sadcl doctor RUN --data DIR.")
    if run is None:
        _report_machine(json=json)
        return
    from sadcl_core.diagnosis.checks import diagnose
    from sadcl_core.diagnosis.environment import look_around
    from sadcl_core.diagnosis.evidence import find_run, gather

    opened = find_run(run)
    machine = look_around(hub=False)
    with counting("scoring held-out images") as progress:
        evidence = gather(
            opened, data=data, limit=limit, device=device, batch_size=batch_size, workers=workers, progress=progress
        )
    checked = diagnose(evidence)
    if json:
        show_json({"schema_version": SCHEMA_VERSION, "environment": machine.as_json(), **_as_json(evidence, checked)})
        return
    show(machine.line)
    show(_about(evidence))
    _show_findings(checked)


def _report_machine(*, json: bool) -> None:
    from sadcl_core.diagnosis.environment import look_around

    say("looking at this machine; the hub has some seconds to answer")
    machine = look_around()
    if json:
        show_json({"schema_version": SCHEMA_VERSION, "environment": machine.as_json()})
        return
    _show_machine(machine)


def _show_machine(machine: Environment) -> None:
    table = new_table("what", "", wrap=True)
    for number, (name, values) in enumerate(machine.sections.items()):
        if number:
            table.add_section()
        table.add_row(name, "")
        for key, value in values.items():
            table.add_row(f"  {key}", str(value))
    show_table(table)
    for number, advice in enumerate(machine.warnings, start=1):
        show(f"{number}. {advice.said}\n   Do this: {advice.action}.")
    if not machine.warnings:
        show("nothing wrong was found")


def _about(evidence: Evidence) -> str:
    """The run, and how many images its model was looked at with."""
    from sadcl_core.diagnosis.verdict import Absent

    parts = [f"run {evidence.run}"]
    if not isinstance(evidence.state, Absent):
        parts.append(evidence.state.status or "status not known")
        stage, epoch = evidence.state.best_at
        parts += [f"best EMA mAP {evidence.state.best:.2f} in epoch {epoch} of stage {stage}"] if epoch else []
    if not isinstance(evidence.config, Absent):
        config = evidence.config
        parts.append(f"{config.model.head} on {config.model.backbone}, data {config.data.dataset}")
    if not isinstance(evidence.scored, Absent):
        parts.append(f"{len(evidence.scored.scores):,} of {evidence.scored.of:,} held-out images scored")
    return " · ".join(parts)


def _show_findings(checked: list[Checked]) -> None:
    """What was found, each with what to do; then a line for what was not, and one for each that could not be looked at."""
    findings = [entry for entry in checked if entry.verdict.status == "found"]
    passed = [entry for entry in checked if entry.verdict.status == "passed"]
    for number, entry in enumerate(findings, start=1):
        show(f"\n{number}. {entry.check.name} ({entry.verdict.severity}): {entry.verdict.said}")
        show(f"   Do this: {entry.verdict.action}.")
    show(f"\n{len(findings) or 'nothing'} found" if not findings else "")
    if verbosity.verbose:
        for entry in passed:
            show(f"passed: {entry.check.name}: {entry.verdict.said}")
    elif passed:
        show(f"passed: {', '.join(entry.check.name for entry in passed)}")
    for entry in checked:
        if entry.verdict.status == "not checked":
            show(f"not checked: {entry.check.name}: {entry.verdict.said}")


def _as_json(evidence: Evidence, checked: list[Checked]) -> dict[str, Any]:
    from sadcl_core.diagnosis.checks import as_json
    from sadcl_core.diagnosis.verdict import Absent

    scored = 0 if isinstance(evidence.scored, Absent) else len(evidence.scored.scores)
    status = None if isinstance(evidence.state, Absent) else evidence.state.status
    return {"run": str(evidence.run), "status": status, "images_scored": scored, "checks": [as_json(entry) for entry in checked]}
