"""Entries by which an exported file describes itself, in this project's form and in those that other programs read."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from sadcl_core import __version__
from sadcl_core.inference.load import Model
from sadcl_core.runs.card import CARD


def metadata(model: Model) -> dict[str, str]:
    """Return the entries of `metadata_props`: names, sizes, thresholds, where the model and its first weights come from.

    Example:
        >>> import torch
        >>> from pathlib import Path
        >>> from sadcl_core.config.schema import ModelSection
        >>> from sadcl_core.model.classifier import Classifier
        >>> from sadcl_core.runs.card import FirstWeights, ModelCard
        >>> section = ModelSection(backbone="test_resnet", head="pooled")
        >>> first = FirstWeights(source="timm/test_resnet.r160_in1k", licence="apache-2.0")
        >>> about = {"classes": ("traffic light", "cow"), "model": section, "first_weights": first}
        >>> card = ModelCard(img_size=64, mean=(0.5,) * 3, std=(0.5,) * 3, **about)
        >>> classifier = Classifier(section, num_classes=2, img_size=64).eval()
        >>> entries = metadata(Model(classifier, card, Path("street.safetensors"), device=torch.device("cpu")))
        >>> entries["names"], entries["model_info labels"], entries["backbone_license"]
        ("{0: 'traffic light', 1: 'cow'}", 'traffic_light cow', 'apache-2.0')
    """
    card, size = model.card, model.card.img_size
    thresholds = {name: round(float(value), 6) for name, value in zip(card.classes, model.thresholds, strict=True)}
    licence = card.first_weights.licence
    ids = [str(number) for number in range(len(card.classes))]
    return {
        CARD: card.model_dump_json(),
        # Ultralytics
        "description": f"{card.model.head} on {card.model.backbone}, multi-label, trained on {card.trained.get('dataset', '?')}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": f"sadcl {__version__}",
        "license": licence,
        "task": "multi-label-classify",
        "names": str(dict(enumerate(card.classes))),
        "imgsz": str([size, size]),
        "channels": "3",
        # OpenVINO ModelAPI
        "model_info model_type": "Classification",
        "model_info task_type": "classification",
        "model_info multilabel": "True",
        "model_info labels": " ".join(name.replace(" ", "_") for name in card.classes),
        "model_info label_ids": " ".join(ids),
        "model_info label_info": json.dumps({"label_names": card.classes, "label_ids": ids}, ensure_ascii=False),
        "model_info confidence_threshold": f"{min(thresholds.values()):g}",
        # lightly-train
        "classes": json.dumps(card.classes, ensure_ascii=False),
        "image_normalize": json.dumps({"mean": card.mean, "std": card.std}),
        # Hugging Face; all of it is in the network
        "hf_preprocessor_config": json.dumps(
            {
                "do_convert_rgb": True,
                "do_resize": True,
                "size": {"height": size, "width": size},
                "resample": 2,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": card.mean,
                "image_std": card.std,
            }
        ),
        "thresholds": json.dumps(thresholds, ensure_ascii=False),
        "backbone": card.model.backbone,
        "backbone_weights": card.first_weights.source,
        "backbone_license": licence,
        "provenance": json.dumps({"model": str(model.path), "exported_by": f"sadcl {__version__}", **card.trained}),
    }
