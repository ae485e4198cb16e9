"""Multi-label image classification: SADCL, its family and rivals, as a library under the `sadcl` command.

    import sadcl_core as sadcl

    model = sadcl.load("runs/coco")
    model.predict("img.jpg").labels

Every command of the program is one of these functions. Importing this package imports no torch; a function imports what it needs
when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sadcl_core.data.image_stream import open_images
    from sadcl_core.data.prepare.prepare import prepare
    from sadcl_core.diagnosis.diagnose import diagnose
    from sadcl_core.evaluation.calibrate import calibrate
    from sadcl_core.evaluation.evaluate import evaluate, evaluate_scores
    from sadcl_core.evaluation.two_models import compare_models
    from sadcl_core.experiments.compare import compare
    from sadcl_core.experiments.sweep import sweep
    from sadcl_core.exporting.export import export
    from sadcl_core.inference.feature_store import clear_features, stored_features
    from sadcl_core.inference.load import Model, load
    from sadcl_core.inference.onnx_model import OnnxModel
    from sadcl_core.inference.predict_images import predict_images
    from sadcl_core.inference.search import search
    from sadcl_core.inference.suggest import suggest
    from sadcl_core.runs.imports.import_checkpoint import import_checkpoint
    from sadcl_core.serving.serve import listen, serve
    from sadcl_core.training.extend import extend
    from sadcl_core.training.train import configure_run, train

__version__ = "0.1.0"

# name -> the module that has it
_PUBLIC: dict[str, str] = {
    "Model": "sadcl_core.inference.load",
    "OnnxModel": "sadcl_core.inference.onnx_model",
    "calibrate": "sadcl_core.evaluation.calibrate",
    "clear_features": "sadcl_core.inference.feature_store",
    "compare": "sadcl_core.experiments.compare",
    "compare_models": "sadcl_core.evaluation.two_models",
    "configure_run": "sadcl_core.training.train",
    "diagnose": "sadcl_core.diagnosis.diagnose",
    "evaluate": "sadcl_core.evaluation.evaluate",
    "evaluate_scores": "sadcl_core.evaluation.evaluate",
    "export": "sadcl_core.exporting.export",
    "extend": "sadcl_core.training.extend",
    "import_checkpoint": "sadcl_core.runs.imports.import_checkpoint",
    "listen": "sadcl_core.serving.serve",
    "load": "sadcl_core.inference.load",
    "open_images": "sadcl_core.data.image_stream",
    "predict_images": "sadcl_core.inference.predict_images",
    "prepare": "sadcl_core.data.prepare.prepare",
    "search": "sadcl_core.inference.search",
    "serve": "sadcl_core.serving.serve",
    "stored_features": "sadcl_core.inference.feature_store",
    "suggest": "sadcl_core.inference.suggest",
    "sweep": "sadcl_core.experiments.sweep",
    "train": "sadcl_core.training.train",
}

__all__ = [
    "Model",
    "OnnxModel",
    "__version__",
    "calibrate",
    "clear_features",
    "compare",
    "compare_models",
    "configure_run",
    "diagnose",
    "evaluate",
    "evaluate_scores",
    "export",
    "extend",
    "import_checkpoint",
    "listen",
    "load",
    "open_images",
    "predict_images",
    "prepare",
    "search",
    "serve",
    "stored_features",
    "suggest",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
