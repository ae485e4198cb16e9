"""Look for what is wrong with this machine and with a run.

Importing this module imports no torch: a torch that is broken is one of the things to find.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sadcl_core.diagnosis.findings import Finding
from sadcl_core.diagnosis.machine import Machine, inspect_machine
from sadcl_core.errors import DataError, UsageError
from sadcl_core.runs.run_directory import OWN_FILES, RunDirectory, find_model
from sadcl_core.runtime.device import check_device_and_precision
from sadcl_core.runtime.progress import Progress

if TYPE_CHECKING:
    from sadcl_core.diagnosis.evidence import Evidence


@dataclass(frozen=True)
class Diagnosis:
    """This machine, and the faults of a run.

    Attributes:
        machine: its means for training, and its faults.
        evidence: what was looked at in the run, None without a run.
        findings: of every check: first what is wrong, the worst first, then the rest in the order of `CHECKS`.
    """

    machine: Machine
    evidence: Evidence | None = None
    findings: tuple[Finding, ...] = ()


def diagnose(
    run: str | Path | None = None,
    *,
    data: str | Path | None = None,
    limit: int | None = 1000,
    device: str = "auto",
    batch_size: int = 32,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Inspect this machine and, of a run, find what is probably wrong with it.

    Args:
        run: its folder, or a model file in it; only the machine and the Hugging Face hub by default.
        data: where the images of the run lie now, if they moved.
        limit: held-out images that are scored at most; None for all.
        device: to score on: auto, cpu, cuda, cuda:N or mps.
        batch_size: images that go through the network at a time.
        workers: processes that read images; by default one less than there are processors.
        progress: called with the images scored so far, and their number.

    Raises:
        UsageError: this is a file of no run, or there is no such kind of device.
        DataError: this is not a run.

    Example:
        >>> diagnosis = diagnose("runs/digits")  # doctest: +SKIP
        >>> [finding.name for finding in diagnosis.findings if finding.status == "found"]  # doctest: +SKIP
        ['rate-too-low']
    """
    if run is None:
        return Diagnosis(inspect_machine())
    directory = find_run(Path(run))
    check_device_and_precision(device, "auto")
    machine = inspect_machine(hub=False)
    from sadcl_core.diagnosis.checks import examine
    from sadcl_core.diagnosis.evidence import gather

    evidence = gather(directory, data=data, limit=limit, device=device, batch_size=batch_size, workers=workers, progress=progress)
    return Diagnosis(machine, evidence, examine(evidence))


def find_run(path: Path) -> RunDirectory:
    """Return the run in a folder, or the one that a model file is in.

    Raises:
        DataError: there is none.
        UsageError: this is a file of no run.
    """
    if path.is_file():
        run = find_model(path)[1]
        if run is None:
            raise UsageError(f"{path} is a file outside a run. Give the folder of a run, such as runs/digits.")
        return run
    if not any((path / name).is_file() for name in (*OWN_FILES, "weights/best.safetensors", "weights/last.safetensors")):
        raise DataError(f"{path} is not a run (no run.json and none of its other files). Give a run of sadcl train.")
    return RunDirectory(path)
