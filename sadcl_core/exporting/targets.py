"""The same model in the forms that other programs load: each writes its files and says how they are run, to be verified."""

from __future__ import annotations

import csv
import io
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sadcl_core.data.images import read_pixels
from sadcl_core.errors import MachineError
from sadcl_core.exporting.metadata import metadata
from sadcl_core.exporting.network import DIMENSIONS, PictureModel, TaggerModel, WholeModel, trace
from sadcl_core.exporting.onnx_writer import silent, write_onnx
from sadcl_core.exporting.verify import Runner
from sadcl_core.inference.load import Model
from sadcl_core.inference.onnx_model import INPUT, OUTPUTS, OnnxModel, open_session
from sadcl_core.runtime.files import safe_name, write_json, write_text

Floats = npt.NDArray[np.float32]
MOST_TOGETHER = 16  # images of a request to Triton


def write_file(model: Model, path: Path) -> Runner:
    """Write one ONNX file with everything inside."""
    write_onnx(trace(WholeModel(model)), path, inputs={INPUT: DIMENSIONS}, outputs=OUTPUTS, metadata=metadata(model))
    exported = OnnxModel(open_session(path, "cpu")[0], model.card, path, model.run)
    return Runner(exported.read, exported.score)


def write_torch(model: Model, path: Path) -> Runner:
    """Write a program of torch.export, which needs no code of this project: `torch.export.load(path).module()`."""
    with silent():  # of shared weights
        torch.export.save(trace(WholeModel(model)), path, extra_files=metadata(model))
        network = torch.export.load(path).module()

    @torch.inference_mode()
    def score(images: list[npt.NDArray[np.uint8]]) -> Floats:
        return np.concatenate([network(torch.from_numpy(image.copy())[None])[0].numpy() for image in images])

    return Runner(read_pixels, score)


def write_triton(model: Model, folder: Path) -> Runner:
    """Write a model repository of Triton: a folder of the model's name with its configuration, labels and version 1."""
    name = safe_name(model.run.path.resolve().name if model.run else model.path.stem)
    runner = write_file(model, _made(folder / name / "1") / "model.onnx")
    session = open_session(folder / name / "1" / "model.onnx", "cpu")[0]
    outputs = [
        _tensor(output.name, "TYPE_FP32", output.shape[1:], "labels.txt" if output.name == OUTPUTS[0] else "")
        for output in session.get_outputs()
    ]
    write_text(folder / name / "labels.txt", "".join(f"{' '.join(label.split())}\n" for label in model.classes))
    write_text(
        folder / name / "config.pbtxt",
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {MOST_TOGETHER}\n'
        f"input [\n{_tensor(INPUT, 'TYPE_UINT8', [-1, -1, 3])}\n]\noutput [\n" + ",\n".join(outputs) + "\n]\n",
    )
    return runner


def write_imgutils(model: Model, folder: Path) -> Runner:
    """Write the folder of an imgutils tagger: images come resized and normalised, as preprocess.json says."""
    card, path = model.card, _made(folder) / "model.onnx"
    names = ("prediction", "logits", "embedding")
    write_onnx(
        trace(TaggerModel(model, prepared=True)),
        path,
        inputs={"input": ("batch", "channels", "height", "width")},
        outputs=names,
        metadata=metadata(model),
    )
    size = [card.img_size, card.img_size]
    steps = [
        {"type": "convert_rgb", "force_background": "black"},
        {"type": "resize", "size": size, "interpolation": "bilinear", "max_size": None, "antialias": True},
        {"type": "maybe_to_tensor"},
        {"type": "normalize", "mean": card.mean, "std": card.std},
    ]
    groups = list(dict.fromkeys(card.superclasses or ["general"]))
    category = [groups.index(name) for name in card.superclasses or ["general"] * len(card.classes)]
    thresholds = [round(float(value), 6) for value in model.thresholds]
    write_json(folder / "preprocess.json", {"stages": ["test"], "test": steps, "val": steps})
    write_json(folder / "categories.json", [{"category": number, "name": name} for number, name in enumerate(groups)])
    rows = [(k, name, category[k], thresholds[k]) for k, name in enumerate(card.classes)]
    _write_csv(folder / "selected_tags.csv", ("tag_id", "name", "category", "best_threshold"), rows)
    means = [float(np.mean([thresholds[k] for k in range(len(category)) if category[k] == g])) for g in range(len(groups))]
    _write_csv(folder / "thresholds.csv", ("category", "name", "threshold"), [(*row, means[row[0]]) for row in enumerate(groups)])
    session = open_session(path, "cpu")[0]

    def score(images: list[torch.Tensor]) -> Floats:
        prepared = model.preprocessing.normalise(torch.stack(images)).numpy()
        return np.asarray(session.run(["prediction"], {"input": prepared})[0])

    return Runner(model.read, score)


def write_openvino(model: Model, folder: Path) -> Runner:
    """Write model.xml and model.bin, with the model_info that OpenVINO's ModelAPI reads."""
    import openvino

    source = _made(folder) / "model.onnx"
    write_file(model, source)
    network = openvino.Core().read_model(source)  # convert_model would tell its makers of it
    for key, value in metadata(model).items():
        network.set_rt_info(value, key.split() if key.startswith("model_info ") else ["sadcl", key])
    openvino.save_model(network, folder / "model.xml", compress_to_fp16=False)
    source.unlink()
    compiled = openvino.compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def score(images: list[npt.NDArray[np.uint8]]) -> Floats:
        return np.concatenate([np.asarray(compiled(image[None])[OUTPUTS[0]]).copy() for image in images])

    return Runner(read_pixels, score)


def write_coreml(model: Model, folder: Path) -> Runner:
    """Write an ML program for images of one size, which Apple's Vision resizes; the metadata is in its creator-defined part.

    Raises:
        MachineError: coremltools cannot convert the network.
    """
    size, name = model.card.img_size, "image"
    with silent(), redirect_stderr(io.StringIO()):
        import coremltools

        program = trace(PictureModel(model, prepared=True)).run_decompositions({})
        image = coremltools.ImageType(name, shape=(1, 3, size, size), color_layout=coremltools.colorlayout.RGB)
        try:
            written = coremltools.convert(
                program,
                inputs=[image],
                outputs=[coremltools.TensorType(output) for output in OUTPUTS],
                minimum_deployment_target=coremltools.target.iOS16,
                compute_precision=coremltools.precision.FLOAT32,
                compute_units=coremltools.ComputeUnit.CPU_ONLY,
            )
        except Exception as error:  # of many kinds, which have no base of their own
            reason = str(error).partition("\n")[0][:200]
            raise MachineError(f"coremltools cannot convert this network ({reason}). Export it with --for onnx.") from None
        entries = metadata(model)
        written.short_description, written.license = entries["description"], entries["license"]
        written.user_defined_metadata.update(entries)
        written.save(str(folder))
    (folder / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)  # no part of the package

    def score(images: list[torch.Tensor]) -> Floats:
        pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        return np.concatenate([written.predict({name: picture})[OUTPUTS[0]] for picture in pictures])

    return Runner(model.read, score)


def _tensor(name: str, kind: str, shape: list[int], labels: str = "") -> str:
    """Return the text of an input or output in a configuration of Triton."""
    dims = ", ".join(str(size) for size in shape)
    file = f'\n    label_filename: "{labels}"' if labels else ""
    return f'  {{\n    name: "{name}"\n    data_type: {kind}\n    dims: [ {dims} ]{file}\n  }}'


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[Any]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    write_text(path, text.getvalue())
