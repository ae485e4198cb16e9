"""Export a trained model: one file with everything inside, held against the trained model before it gets its name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadcl_core.data.shards import spaced_images
from sadcl_core.data.split import Split
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.inference.load import ModelFile, find_card, load_trained
from sadcl_core.inference.split import open_split
from sadcl_core.registry import suggest
from sadcl_core.runs.onnx_file import SUFFIX, is_onnx
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.packages import is_installed
from sadcl_core.runtime.progress import StagedProgress, stage

if TYPE_CHECKING:
    from sadcl_core.exporting.quantise import Quantised
    from sadcl_core.exporting.verify import Verification
    from sadcl_core.inference.load import Model

IMAGES = 200  # that an export is verified on
RANGES = 128  # training images that set the scales of 8 bits


@dataclass(frozen=True)
class Target:
    """A kind of program to export for, and the files that are written for it.

    Attributes:
        write: function of `sadcl_core.exporting.targets` that does it.
        packages: that it needs.
        name: of the file or folder.
        install: what pip installs for it.
        platform: that alone can run it, as `sys.platform` names it; empty: each can.
    """

    write: str
    packages: tuple[str, ...]
    name: str
    install: str = "'sadcl[export]'"
    platform: str = ""


ONNX = ("onnx", "onnxscript", "onnxruntime")
TARGETS = {
    "onnx": Target("write_file", ONNX, f"model{SUFFIX}"),
    "torch": Target("write_torch", (), "model.pt2"),
    "triton": Target("write_triton", ONNX, "triton"),
    "imgutils": Target("write_imgutils", ONNX, "imgutils"),
    "openvino": Target("write_openvino", (*ONNX, "openvino"), "openvino", "'sadcl[export,openvino]'"),
    "coreml": Target("write_coreml", ("coremltools",), "model.mlpackage", "'sadcl[coreml]'", "darwin"),
}
UNVERIFIABLE = "Core ML predicts on a Mac alone. Export it there to compare it with the trained model."


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        path: of the file, or of the folder of several.
        verification: how it differs from the trained model; None where there were no images.
        unverified: the reason, as a sentence, why nothing was verified; else empty.
        files: all that were written, with their sizes in bytes.
        quantised: the same model in 8 bits, where that was asked for.
    """

    path: Path
    verification: Verification | None
    unverified: str = ""
    files: dict[Path, int] = field(default_factory=dict)
    quantised: Quantised | None = None

    def as_json(self) -> dict[str, Any]:
        """Return one document."""
        return {
            "schema_version": 1,
            "path": str(self.path),
            "files": {str(path): size for path, size in self.files.items()},
            "verification": None if self.verification is None else self.verification.as_json(),
            "unverified": self.unverified,
            "quantised": None if self.quantised is None else self.quantised.as_json(),
        }


def export(
    run_or_file: str | Path | None = None,
    target: str = "onnx",
    *,
    output: str | Path | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    images: int = IMAGES,
    img_size: int | None = None,
    classes: str = "",
    int8: bool = False,
    progress: StagedProgress | None = None,
    listen: Callable[[Model], None] | None = None,
) -> Export:
    """Write a model for other programs, and hold what was written against the trained one on held-out images.

    Args:
        run_or_file: a run, a model file, or None for the run that finished last.
        target: a row of TARGETS: onnx, torch (torch.export), triton (a repository), imgutils (a tagger's folder), openvino or
            coreml.
        output: the file, or the folder of several; inside `export/` of the run, or here, unless given.
        data: other images than the run's own: a name, a folder, a label file.
        split: of the images; the run's held-out split unless given.
        images: that it is verified on, spread evenly over the split; 0: none.
        img_size: side in pixels that the network resizes to; that of the training unless given.
        classes: their names, of a checkpoint of another program, as of `sadcl_core.load`.
        int8: also write the ONNX file in 8 bits, thresholds chosen again, and measure its mAP beside that of the trained one.
        progress: called with what is done, how far, and of how many.
        listen: called with the model before it is exported.

    Raises:
        GateError: it does not answer as the trained model; it is deleted.
        DataError: there is no model or no such data, or they are damaged.
        UsageError: an argument makes no sense, or the file cannot be written.
        MachineError: a package is missing.
    """
    if target not in TARGETS:
        raise UsageError(f"There is no target {target!r}. {suggest(target, TARGETS)}")
    chosen = TARGETS[target]
    missing = [name for name in chosen.packages if not is_installed(name)]
    if missing:
        raise MachineError(f"This needs {', '.join(missing)}, which is not installed: pip install {chosen.install}")
    if int8 and target != "onnx":
        raise UsageError(f"--int8 is for the ONNX file, not for {target}. Leave one of both out.")
    file = _find(run_or_file, classes=classes, img_size=img_size)
    path = file.folder("export") / chosen.name if output is None else Path(output)
    _refuse_place(path, Path(chosen.name).suffix)
    may_fail = not int8 and data is None and split is None
    held_out, unverified = None, "No images were asked for."
    if chosen.platform not in ("", sys.platform):
        unverified = UNVERIFIABLE
    elif images or int8:
        held_out, reason = _open(file, data, split, progress, may_fail=may_fail)
        unverified = reason if images else unverified
    train = _open(file, data, "train", progress)[0] if int8 else None

    from sadcl_core.exporting import targets
    from sadcl_core.exporting.verify import verify

    model = load_trained(run_or_file, device="cpu", precision="fp32", img_size=img_size, classes=classes)
    if listen is not None:
        listen(model)
    report = stage(progress, "tracing the network") or (lambda done, total: None)
    verification = None
    with replacing(path) as temporary:
        report(0, 1)
        runner = getattr(targets, chosen.write)(model, temporary)
        report(1, 1)
        if held_out is not None and images:
            verification = verify(
                model, runner, list(spaced_images(held_out, images).values()), progress=stage(progress, "comparing images")
            )
            unverified = "" if verification else "None of the images can be read by both models."
        if verification is not None:
            verification.require(path)
        inside = [temporary] if temporary.is_file() else sorted(one for one in temporary.rglob("*") if one.is_file())
        files = {path / one.relative_to(temporary): one.stat().st_size for one in inside}
    quantised = None
    if held_out is not None and train is not None:
        from sadcl_core.exporting.quantise import quantise

        small = path.with_name(f"{path.stem}-int8{path.suffix}")
        ranges = list(spaced_images(train, RANGES).values())
        quantised = quantise(model, path, small, ranges=ranges, held_out=held_out, progress=progress)
        files[small] = quantised.size
    return Export(path, verification, unverified, files, quantised)


def _open(
    file: ModelFile, data: str | Path | None, split: str | None, progress: StagedProgress | None, *, may_fail: bool = False
) -> tuple[Split | None, str]:
    """Return the images of a split; where it may fail, None and the reason."""
    try:
        return open_split(file, data=None if data is None else str(data), split=split, progress=progress).split, ""
    except (DataError, UsageError) as error:
        if not may_fail:
            raise
        return None, str(error)


def _find(run_or_file: str | Path | None, **about: Any) -> ModelFile:
    """Return the model file that is exported, or raise a UsageError if it cannot be."""
    if run_or_file is not None and is_onnx(Path(run_or_file)):
        raise UsageError(f"{run_or_file} is an exported model already. Give the run, or its model file.")
    return find_card(run_or_file, **about)


def _refuse_place(path: Path, suffix: str) -> None:
    """Raise a UsageError for a file of another kind, and for a folder that is there."""
    if path.suffix.lower() != suffix and suffix:
        raise UsageError(f"-o {path}: this file ends in {suffix}. Name it so.")
    if path.exists() and (not suffix or not path.is_file()):
        raise UsageError(f"{path} exists. Remove it, or choose another place with -o.")
