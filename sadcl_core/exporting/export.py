"""Export a trained model: one file with everything inside, held against the trained model before it gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sadcl_core.data.split import Split
from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.inference.load import ModelFile, find_card
from sadcl_core.inference.onnx_model import OnnxModel, open_session
from sadcl_core.runs.onnx_file import SUFFIX, is_onnx
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.progress import StagedProgress, stage

if TYPE_CHECKING:
    from sadcl_core.data.images import ImageSource
    from sadcl_core.exporting.verify import Verification
    from sadcl_core.inference.load import Model

IMAGES = 200  # that an export is verified on
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Export:
    """Result of an export.

    Attributes:
        path: of the file, or of the folder of several.
        verification: how it differs from the trained model; None where there were no images.
        unverified: why there is no verification, as a sentence; else empty.
        files: all that were written, with their sizes in bytes.
    """

    path: Path
    verification: Verification | None
    unverified: str = ""
    files: dict[Path, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return one document."""
        return {
            "schema_version": 1,
            "path": str(self.path),
            "files": {str(path): size for path, size in self.files.items()},
            "verification": None if self.verification is None else self.verification.as_json(),
            "unverified": self.unverified,
        }


def export(
    run_or_file: str | Path | None = None,
    *,
    output: str | Path | None = None,
    data: str | Path | None = None,
    split: str | None = None,
    images: int = IMAGES,
    img_size: int | None = None,
    progress: StagedProgress | None = None,
) -> Export:
    """Write a model as ONNX, and hold it against the trained one on held-out images.

    Args:
        run_or_file: a run, a model file, or None for the run that finished last.
        output: the file; `export/model.onnx` inside the run, or here, unless given.
        data: other images than the run's own: a name, a folder, a label file.
        split: of the images; the run's held-out split unless given.
        images: that it is verified on, spread evenly over the split; 0: none.
        img_size: side in pixels that the network resizes to; that of the training unless given.
        progress: called with what is done, how far, and of how many.

    Raises:
        GateError: it does not answer as the trained model; it is deleted.
        DataError: there is no model or no such data, or they are damaged.
        UsageError: an argument makes no sense, or the file cannot be written.
        MachineError: a package is missing.
    """
    _require(PACKAGES)
    if run_or_file is not None and is_onnx(Path(run_or_file)):
        raise UsageError(f"{run_or_file} is an exported model already. Give the run, or its model file.")
    target = None if output is None else Path(output)
    if target is not None and not is_onnx(target):
        raise UsageError(f"-o {target}: an ONNX file ends in {SUFFIX}. Name it so.")
    file = find_card(run_or_file)
    sources, unverified = _held_out(file, data=data, split=split, images=images, progress=progress)

    from sadcl_core.exporting.metadata import metadata
    from sadcl_core.exporting.network import DIMENSIONS, WholeModel, trace
    from sadcl_core.exporting.onnx_writer import write_onnx
    from sadcl_core.exporting.verify import verify
    from sadcl_core.inference.load import load_trained
    from sadcl_core.inference.onnx_model import INPUT, OUTPUTS

    model = load_trained(run_or_file, device="cpu", precision="fp32", img_size=img_size)
    path = target or model.folder("export") / f"model{SUFFIX}"
    report = stage(progress, "tracing the network")
    if report is not None:
        report(0, 1)
    program = trace(WholeModel(model))
    with replacing(path) as temporary:
        write_onnx(program, temporary, inputs={INPUT: DIMENSIONS}, outputs=OUTPUTS, metadata=metadata(model))
        if report is not None:
            report(1, 1)
        exported = open_exported(temporary, model)
        verification = None
        if sources:
            verification = verify(model, exported.read, exported.score, sources, progress=stage(progress, "comparing images"))
            unverified = "" if verification else "No image of the split can be read."
        if verification is not None:
            verification.require(path)
        size = temporary.stat().st_size
    return Export(path, verification, unverified, {path: size})


def open_exported(path: Path, model: Model) -> OnnxModel:
    """Open what was written of a model, on the CPU."""
    return OnnxModel(open_session(path, "cpu")[0], model.card, path, model.run)


def _require(packages: Sequence[str]) -> None:
    """Raise a MachineError where a package is missing; imports none."""
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise MachineError(f"Exporting needs {', '.join(missing)}. Install what is missing: pip install 'sadcl[export]'")


def _held_out(
    file: ModelFile, *, data: str | Path | None, split: str | None, images: int, progress: StagedProgress | None
) -> tuple[list[ImageSource], str]:
    """Return images of the held-out split, spread evenly over it, or why there are none."""
    if not images:
        return [], "No images were asked for."
    from sadcl_core.inference.split import open_split

    try:
        opened = open_split(file, data=None if data is None else str(data), split=split, progress=progress)
    except (DataError, UsageError) as error:
        if data is not None or split is not None:
            raise
        return [], str(error)
    return spread(opened.split, images), ""


def spread(split: Split, count: int) -> list[ImageSource]:
    """Return at most `count` images of a split at even distances; of shards the first."""
    from sadcl_core.data.shards import image_sources

    count = min(count, len(split))
    if split.manifest.description.shards is not None:
        return list(image_sources(split, count))
    return [split.path(number * len(split) // count) for number in range(count)]
