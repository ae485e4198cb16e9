"""Sentences and tables of `sadcl doctor`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sadcl_cli.console import new_table, show, show_json, show_table, verbosity
from sadcl_core.diagnosis.diagnose import Diagnosis
from sadcl_core.diagnosis.findings import Finding
from sadcl_core.diagnosis.machine import Machine

if TYPE_CHECKING:
    from sadcl_core.diagnosis.evidence import Evidence

SCHEMA_VERSION = 1


def show_diagnosis(diagnosis: Diagnosis, *, json: bool) -> None:
    """Show the machine alone, or its most important values and the findings of a run."""
    evidence = diagnosis.evidence
    if json:
        show_json(diagnosis_document(diagnosis))
    elif evidence is None:
        _show_machine(diagnosis.machine)
    else:
        show(machine_line(diagnosis.machine))
        show(_run_line(evidence))
        _show_findings(diagnosis.findings)


def diagnosis_document(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return one JSON document; numbers that are not finite are null."""
    machine, evidence = diagnosis.machine, diagnosis.evidence
    warnings = [{"said": warning.message, "action": warning.action} for warning in machine.warnings]
    document = {"schema_version": SCHEMA_VERSION, "environment": {**machine.sections, "warnings": warnings}}
    if evidence is None:
        return document
    checks = [
        {
            "name": finding.name,
            "looks_for": finding.looks_for,
            "status": finding.status,
            "severity": finding.severity,
            "said": finding.message,
            "action": finding.action or None,
            "evidence": _without_nan(finding.numbers),
        }
        for finding in diagnosis.findings
    ]
    return {
        **document,
        "run": str(evidence.run),
        "status": None if evidence.state is None else evidence.state.status,
        "images_scored": 0 if evidence.scored is None else len(evidence.scored.scores),
        "checks": checks,
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show_machine(machine: Machine) -> None:
    table = new_table("what", "", wrap=True)
    for number, (name, values) in enumerate(machine.sections.items()):
        if number:
            table.add_section()
        table.add_row(name, "")
        for key, value in values.items():
            table.add_row(f"  {key}", str(value))
    show_table(table)
    for number, warning in enumerate(machine.warnings, start=1):
        show(f"{number}. {warning.message}\n   Do this: {warning.action}.")
    if not machine.warnings:
        show("nothing wrong was found")


def machine_line(machine: Machine) -> str:
    """Return the most important values of a machine in one line."""
    software, computing, values = (machine.sections.get(name, {}) for name in ("software", "computing", "machine"))
    parts = [
        f"Python {software.get('python')}",
        f"sadcl {software.get('sadcl')}",
        f"torch {software.get('torch')}",
        *[f"{name}: {value}" for name, value in computing.items() if name == "mps" or name.startswith("cuda:")],
        f"{values.get('cores')} CPU cores",
        str(values.get("memory")),
        *([f"{len(machine.warnings)} warnings"] if machine.warnings else []),
    ]
    return " · ".join(parts)


def _run_line(evidence: Evidence) -> str:
    """Return the run, and how many images of it were scored."""
    parts = [f"run {evidence.run}"]
    if evidence.state is not None:
        parts.append(evidence.state.status or "status unknown")
        stage, epoch = evidence.state.best_at
        if epoch:
            parts.append(f"best {evidence.state.best_weights} mAP {evidence.state.best:.2f} in epoch {epoch} of stage {stage}")
    if evidence.config is not None:
        config = evidence.config
        parts.append(f"{config.model.head} on {config.model.backbone}, data {config.data.dataset}")
    if evidence.scored is not None:
        parts.append(f"{len(evidence.scored.scores):,} of {evidence.scored.total:,} held-out images scored")
    return " · ".join(parts)


def _show_findings(findings: Sequence[Finding]) -> None:
    """Show what is wrong, each with what to do; then a line for what is not, and one for each reason not to check."""
    wrong = [finding for finding in findings if finding.status == "found"]
    passed = [finding for finding in findings if finding.status == "passed"]
    for number, finding in enumerate(wrong, start=1):
        show(f"\n{number}. {finding.name} ({finding.severity}): {finding.message}")
        show(f"   Do this: {finding.action}.")
    show("" if wrong else "\nnothing found")
    if verbosity.verbose:
        for finding in passed:
            show(f"passed: {finding.name}: {finding.message}")
    elif passed:
        show(f"passed: {', '.join(finding.name for finding in passed)}")
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.status == "not checked":
            reasons.setdefault(finding.message, []).append(finding.name)
    for reason, names in reasons.items():
        show(f"not checked: {', '.join(names)}: {reason}")
