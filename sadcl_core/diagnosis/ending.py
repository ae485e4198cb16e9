"""Checks of how a run ended, and of the model file it left."""

from __future__ import annotations

from sadcl_core.diagnosis.evidence import Evidence
from sadcl_core.diagnosis.history import RunState
from sadcl_core.diagnosis.losses import tenth
from sadcl_core.diagnosis.verdict import Absent, NotThereError, Verdict, found, named, passed, there
from sadcl_core.runs.run_directory import DIVERGED, RUNNING


def ended(evidence: Evidence) -> Verdict:
    """How the run ended, and what to type next."""
    state, run = there(evidence.state), evidence.run
    numbers = {"status": state.status, "why": state.ended, "resumable": state.resumable}
    if state.whole:
        return passed("all stages were trained", **numbers)
    if state.alive:
        action = f"Wait until it ends, then look again: sadcl doctor {run}"
        return found("minor", "The run is still training; what is said here is of what it has done so far.", action, **numbers)
    if state.status == DIVERGED:
        return found("serious", f"Training diverged: {_sentence(state.ended)}", tenth(evidence), **numbers)
    if state.resumable:
        action = f"Go on from where it stopped: sadcl train --resume {run}"
    else:
        action = f"It kept no state to go on from. Train again: sadcl train {_data(evidence)} -c {run}/config.yaml"
    return found("doubtful" if state.status == "interrupted" else "serious", _how_it_stopped(state), action, **numbers)


def model_file(evidence: Evidence) -> Verdict:
    """Whether the model file can be read, and holds numbers."""
    files = [evidence.run / "weights" / f"{name}.safetensors" for name in ("best", "last")]
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        raise NotThereError("the run has no model file")
    again = f"Take the other model file of the run, or train again: sadcl train {_data(evidence)} -c {evidence.run}/config.yaml"
    for part in (evidence.card, evidence.broken_weights):
        if isinstance(part, Absent):
            return found("serious", f"The model cannot be opened: {_sentence(part.why)}", again)
    broken = list(there(evidence.broken_weights))
    if broken:
        said = f"{path} holds what is no finite number in {len(broken)} tensors: {named(broken)}."
        return found("serious", said, again, tensors=len(broken))
    return passed(f"{path.name} can be read and holds finite numbers")


def _how_it_stopped(state: RunState) -> str:
    if state.status in (RUNNING, "starting"):
        elsewhere = f" on {state.host}, where it may still work" if state.host else ", and its process is gone"
        return (
            f"The run never said that it ended: its status is {state.status}{elsewhere}. It was killed, or the machine stopped."
        )
    why = f": {_sentence(state.ended)}" if state.ended else "."
    return f"The run did not train all stages; its status is {state.status or 'not known'}{why}"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _data(evidence: Evidence) -> str:
    """What to name on the command line."""
    data = None if isinstance(evidence.config, Absent) else evidence.config.data
    return "DATA" if data is None else data.manifest or data.dataset or "DATA"
