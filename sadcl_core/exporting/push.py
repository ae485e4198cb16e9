"""Give a model away on the Hugging Face hub: its file, its export, its thresholds, and a page with what was measured."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from typing import Any

from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.exporting.metadata import metadata
from sadcl_core.exporting.timm_files import CONFIG, write_timm
from sadcl_core.inference.embedding_index import fingerprint
from sadcl_core.inference.load import Model, load_trained
from sadcl_core.inference.thresholds import AS_THEY_ARE, CALIBRATED, SCALE, write_thresholds
from sadcl_core.runs.card import read_card
from sadcl_core.runs.hub import MODEL, check_repository, quiet_hub
from sadcl_core.runtime.files import regular, write_text

ONNX, THRESHOLDS, PAGE = "model.onnx", "thresholds.json", "README.md"
USE_OF_TIMM = """
```python
model = timm.create_model("hf-hub:{}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
scores = model(transform(image)[None]).sigmoid()[0]  # of model.pretrained_cfg["label_names"]
```"""


@dataclass(frozen=True)
class Pushed:
    """Files that were written for the hub.

    Attributes:
        files: their names.
        without_timm: the reason why files for timm are missing; empty where they are not.
        address: of the repository in a browser; empty where nothing was uploaded.
    """

    files: tuple[str, ...]
    without_timm: str
    address: str = ""


def push(run: str | Path | None, repository: str, *, private: bool = False) -> Pushed:
    """Put a run on the hub, and return its files there and their address.

    Args:
        run: a run with an evaluation; None: the run that finished last.
        repository: USER/NAME or hf://USER/NAME, made where it is not there.
        private: of a repository that is made: only its owner sees it.

    Raises:
        DataError: as of `write_folder`.
        UsageError: it is no name of a repository, or nobody is logged in, or not its owner.
        MachineError: the hub cannot be reached.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    name = check_repository(repository)
    with tempfile.TemporaryDirectory() as folder:
        written = write_folder(run, Path(folder), repository=name)
        quiet_hub()
        api = HfApi(endpoint=constants.ENDPOINT)
        try:
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Add a model of sadcl")
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                raise UsageError(f"The hub does not let you write {name} ({status}). Log in: hf auth login.") from None
            raise MachineError(f"The hub refuses {name} ({status}). Try again, or write the folder with -o.") from None
        except Exception as error:  # of the network, of many kinds
            raise MachineError(
                f"The hub cannot be reached ({type(error).__name__}). Write the folder with -o DIR, and upload it elsewhere: "
                f"hf upload {name} DIR."
            ) from None
    return replace(written, address=str(address))


def write_folder(run: str | Path | None, folder: Path, *, repository: str) -> Pushed:
    """Write what goes to the hub into a folder, which is empty or not there, and return what is in it; see `push`.

    Raises:
        DataError: there is no model or no evaluation of it, or its export is of another model.
        UsageError: the folder holds something, or it is no name of a repository.
    """
    repository = check_repository(repository)
    model = load_trained(run, device="cpu")
    evaluation = _last_evaluation(model)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already. Name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.path, folder / MODEL)
    exported = model.folder("export") / ONNX
    if exported.is_file():
        if read_card(exported) != model.card:
            raise DataError(
                f"{exported} is an export of other weights or thresholds. Export again: "
                f"sadcl export onnx -w {quote(str(model.path))}"
            )
        shutil.copyfile(exported, folder / ONNX)
    scale = CALIBRATED if model.card.temperatures else AS_THEY_ARE
    write_thresholds(folder / THRESHOLDS, model.classes, model.thresholds.tolist(), {SCALE: scale})
    without_timm = write_timm(model, folder)
    files = tuple(sorted([PAGE, *(path.name for path in folder.iterdir())]))
    write_text(folder / PAGE, describe(model, evaluation, repository=repository, files=files))
    return Pushed(files, without_timm)


def describe(model: Model, evaluation: Mapping[str, Any], *, repository: str, files: Collection[str]) -> str:
    """Return the page of a model in Markdown, with the head that the hub reads.

    The evaluation is as `sadcl eval` wrote it; `files` are the names of those that lie beside the page.
    """
    card, licence = model.card, metadata(model)["license"]
    known = licence.replace("-", "").replace(".", "").isalnum() and licence != "unknown"
    head = ["---", "library_name: sadcl", "pipeline_tag: image-classification", "tags: [multi-label, timm]"]
    head.append(f"license: {json.dumps(licence) if known else 'other'}")
    rows = [f"| {key} | {value} |" for key, value in _facts(model, evaluation, licence).items()]
    both = ("AP_interpolated", "AP_non_interpolated")
    classes = [
        f"| {_cell(row['name'])} | {row['positives']} | {' | '.join(_number(row[key]) for key in both)} | {threshold:.3f} |"
        for row, threshold in zip(evaluation["per_class"], model.thresholds.tolist(), strict=True)
    ]
    commands = ["```bash", f"sadcl predict img.jpg -w hf://{repository}"]
    commands += ["# model.onnx: the same without torch"] if ONNX in files else []
    commands += ["```", *(USE_OF_TIMM.format(repository).splitlines() if CONFIG in files else [])]
    lines = [
        *(*head, "---", "", f"# {_cell(repository.rpartition('/')[2])}", ""),
        f"{len(card.classes)} labels of images, several for each: {card.model.head} on {card.model.backbone}.",
        *("", *commands, "", "| | |", "| --- | --- |", *rows, ""),
        *("| class | positives | AP interpolated | AP non-interpolated | threshold |", "| --- | ---: | ---: | ---: | ---: |"),
        *(*classes, ""),
    ]
    return "\n".join(lines)


def _facts(model: Model, evaluation: Mapping[str, Any], licence: str) -> dict[str, str]:
    card = model.card
    facts = {
        f"mAP {kind}": _with_interval(evaluation, f"mAP_{kind.replace('-', '_')}")
        for kind in ("interpolated", "non-interpolated")
    }
    facts |= {
        "evaluated on": f"{evaluation['images']:,} images, split {evaluation['split']} of {evaluation['dataset']}",
        "data fingerprint": evaluation.get("data_fingerprint") or "none",
        "images": f"{card.img_size} px",
        "thresholds": f"for {card.calibrated['objective']}" if card.calibrated else "as in the table",
        "licence of the first weights": licence,
    }
    return {key: _cell(value) for key, value in facts.items()}


def _with_interval(evaluation: Mapping[str, Any], key: str) -> str:
    low, high = evaluation.get(f"{key}_interval") or (None, None)
    interval = f" [{_number(low)}, {_number(high)}]" if low is not None else ", no interval was computed"
    return _number(evaluation[key]) + interval


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _cell(value: object) -> str:
    """Return a text for a cell of a table, without what Markdown or HTML would obey."""
    return "".join(f"&#{ord(letter)};" if letter in "|<>[]`*_\\&\n\r" else letter for letter in str(value))


def _last_evaluation(model: Model) -> dict[str, Any]:
    """Return the last evaluation of a model's own weights on whole held-out images of its size, each in one view.

    Raises:
        DataError: there is none.
    """
    own = fingerprint(model.classifier.state_dict())
    files = sorted(model.folder("eval").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in files:
        try:
            document = json.loads(regular(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if not isinstance(document, dict) or document.get("fingerprint") != own:  # trained on since, or of another file
            continue
        if (document.get("dataset"), document.get("split")) == (model.card.trained.get("dataset"), "train"):
            continue
        if any(map(document.get, ("limit", "tta", "resize", "known_share"))):
            continue
        if document.get("img_size") != model.card.img_size or "mAP_interpolated" not in document:
            continue
        if [row.get("name") for row in document.get("per_class", [])] == list(model.classes):
            return document
    raise DataError(
        f"{model.path} has no evaluation of its weights on all held-out images, which its page would show. Run: "
        f"sadcl eval -w {quote(str(model.path))}"
    )
