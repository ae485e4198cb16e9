"""Files in each published format, written here from the names of their tensors, and what they are here."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import ml_decoder
from timm.models import build_model_with_cfg, register_model
from timm.models.tresnet import TResNet, checkpoint_filter_fn  # noqa: F401 (looked for beside the model)
from torch import Tensor

from sadcl_core.config.schema import ModelSection
from sadcl_core.data.formats import digits
from sadcl_core.errors import DataError, UsageError
from sadcl_core.evaluation.calibrate import calibrate
from sadcl_core.evaluation.evaluate import evaluate
from sadcl_core.inference.load import load
from sadcl_core.model.classifier import Classifier
from sadcl_core.model.heads.interface import HeadOutput
from sadcl_core.runs.card import read_card
from sadcl_core.runs.checkpoint import load_model, save_model
from sadcl_core.runs.imports.import_checkpoint import Imported, import_checkpoint

NAMES = ",".join(digits.CLASSES)
CLASSES = len(digits.CLASSES)
SMALL: dict[str, dict[str, Any]] = {
    "sarl": {"width": 8, "feedforward": 16},
    "mulcon": {"width": 8, "token_width": 12},
    "ml_decoder": {"width": 16, "feedforward": 24, "groups": 2},
    "csra": {"attention_heads": 2, "attention_weight": 0.5},
}

# names here -> names there, for files that are made here
TRANSFORMER = (
    (r"head\.input_projection\.", "input_proj."),
    (r"head\.encoder\.(\d)\.attention\.", r"transformer.encoder.layers.\1.self_attn."),
    (r"head\.encoder\.(\d)\.norm\.", r"transformer.encoder.layers.\1.norm1."),
    (r"head\.encoder\.(\d)\.feedforward\.norm\.", r"transformer.encoder.layers.\1.norm2."),
    (r"head\.decoder\.(\d)\.self_attention\.", r"transformer.decoder.layers.\1.self_attn."),
    (r"head\.decoder\.(\d)\.self_norm\.", r"transformer.decoder.layers.\1.norm1."),
    (r"head\.decoder\.(\d)\.cross_attention\.", r"transformer.decoder.layers.\1.multihead_attn."),
    (r"head\.decoder\.(\d)\.norm\.", r"transformer.decoder.layers.\1.norm2."),
    (r"head\.decoder\.(\d)\.feedforward\.norm\.", r"transformer.decoder.layers.\1.norm3."),
    (r"head\.(encoder|decoder)\.(\d)\.feedforward\.layers\.0\.", r"transformer.\1.layers.\2.linear1."),
    (r"head\.(encoder|decoder)\.(\d)\.feedforward\.layers\.3\.", r"transformer.\1.layers.\2.linear2."),
    (r"head\.decoder_norm\.", "transformer.decoder.norm."),
    (r"head\.class_embedding", "query_embed.weight"),
    (r"head\.weight", "fc.W"),
    (r"head\.bias", "fc.b"),
    (r"projection\.0\.", "proj_head.layers.0."),
    (r"projection\.2\.", "proj_head.layers.1."),
    (r"prototypes", "prototype"),
)


@register_model
def tresnet_test(pretrained: bool = False, **options: Any) -> TResNet:
    """A TResNet with few layers and channels."""
    kwargs: dict[str, Any] = {"pretrained": pretrained, "layers": [1, 1, 1, 1], "width_factor": 0.25, **options}
    net: TResNet = build_model_with_cfg(
        TResNet, "tresnet_test", feature_cfg={"out_indices": (1, 2, 3, 4), "flatten_sequential": True}, **kwargs
    )
    return net


def make(head: str, backbone: str = "test_resnet", **options: Any) -> Classifier:
    torch.manual_seed(0)
    heads = {head: {**SMALL.get(head, {}), **options}}
    section = ModelSection(backbone=backbone, head=head, heads=heads, projection_width=6)
    classifier = Classifier(section, num_classes=CLASSES, img_size=64).eval()
    with torch.no_grad():
        classifier.prototypes.normal_()
    return classifier


def backbone_of(classifier: Classifier, prefix: str) -> dict[str, Tensor]:
    """Return the tensors as older programs wrote them: by the names of a whole model, no counters of batches."""
    names = {name.replace(".", "_"): name for name in timm.create_model(classifier.backbone.name).state_dict()}
    state = {names[name.replace(".", "_")]: tensor for name, tensor in classifier.backbone.net.state_dict().items()}
    return {f"{prefix}{name}": tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def transformer_file(classifier: Classifier, *, sadcl: bool) -> dict[str, Tensor]:
    own = {name: tensor for name, tensor in classifier.state_dict().items() if not name.startswith("backbone.")}
    if not sadcl:
        own = {name: tensor for name, tensor in own.items() if name.startswith("head.")}
    stored = backbone_of(classifier, "module.backbone.0.body.")
    for name, tensor in own.items():
        there = next(re.sub(pattern, new, name) for pattern, new in TRANSFORMER if re.match(pattern, name))
        stored[f"module.{there}"] = tensor[None] if there in ("fc.W", "fc.b", "prototype") else tensor
    stored["module.backbone.1.pe"] = torch.zeros(1, 8, 2, 2)
    return {**stored, "module.memorybank": torch.zeros(2, CLASSES, 8)} if sadcl else stored


def mulcon_file(classifier: Classifier) -> dict[str, Tensor]:
    stored = backbone_of(classifier, "backbone.")
    blocks = {"token_blocks.0": "sab1.mab", "token_blocks.1": "sab2.mab", "label_attention": "mab", "label_blocks.0": "sab3.mab"}
    inner = {"query": "fc_q", "key": "fc_k", "value": "fc_v", "norm": "ln0", "layer": "fc_o", "layer_norm": "ln1"}
    for name, tensor in classifier.head.state_dict().items():
        block = next((there for here, there in blocks.items() if name.startswith(f"{here}.")), None)
        if block is not None:
            part, kind = name.split(".")[-2:]
            stored[f"A.{block}.{inner[part]}.{kind}"] = tensor
        elif name == "label_tokens":
            stored["A.I"] = tensor[None]
        else:
            stored |= {f"C_{number}.{name}": row[None] for number, row in enumerate(tensor)}
    return stored


def ml_decoder_file(classifier: Classifier) -> dict[str, Tensor]:
    """Return the names of the published program; a query stands for five classes, and its weights have a column of each."""
    inner = {
        "attention": "decoder.layers.0.multihead_attn",
        "query_norm": "decoder.layers.0.norm1",
        "norm": "decoder.layers.0.norm2",
        "feedforward.norm": "decoder.layers.0.norm3",
        "feedforward.layers.0": "decoder.layers.0.linear1",
        "feedforward.layers.3": "decoder.layers.0.linear2",
        "input_projection": "embed_standart",
    }
    own = classifier.head.state_dict()
    stored = backbone_of(classifier, "module.")
    for name, tensor in own.items():
        part = next((part for part in inner if name.startswith(f"{part}.")), None)
        if part is not None:
            stored[f"module.head.{inner[part]}{name.removeprefix(part)}"] = tensor
    groups = len(own["queries"])
    return {
        **stored,
        "module.head.decoder.query_embed.weight": own["queries"],
        "module.head.decoder.duplicate_pooling": own["weight"].view(groups, CLASSES // groups, -1).transpose(1, 2).contiguous(),
        "module.head.decoder.duplicate_pooling_bias": own["bias"],
    }


def linear_file(classifier: Classifier, name: str) -> dict[str, Tensor]:
    layer = classifier.head.state_dict()
    return {**backbone_of(classifier, ""), f"{name}.weight": layer["classifier.weight"], f"{name}.bias": layer["classifier.bias"]}


def tresnet_file(classifier: Classifier) -> dict[str, Tensor]:
    """Return the names of ASL's program, whose normalisation takes weights of any sign for their size."""
    with torch.no_grad():
        for name, weights in classifier.backbone.named_parameters():
            if name.endswith("bn.weight"):
                weights.fill_(0.5)
    stored = {}
    for name, tensor in linear_file(classifier, "head.fc").items():
        there = re.sub(r"(conv\d|downsample\.\d)\.bn\.", r"\1.1.", re.sub(r"(conv\d|downsample\.\d)\.conv\.", r"\1.0.", name))
        stored[there] = -(tensor - 1e-5) if name.endswith("bn.weight") else tensor
    return stored


def write(path: Path, stored: Mapping[str, Tensor], **beside: Any) -> Path:
    torch.save({"state_dict": dict(stored), **beside}, path)
    return path


def bring(path: Path, output: Path, **options: Any) -> Imported:
    return import_checkpoint(path, output, **{"classes": NAMES, "backbone": "test_resnet", **options})


@torch.no_grad()
def logits(path: Path) -> Tensor:
    output: HeadOutput = load_model(path).classifier(IMAGES)
    return output.logits


IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
MADE: dict[str, tuple[str, dict[str, Any], Callable[[Classifier], dict[str, Tensor]], dict[str, Any]]] = {
    "SADCL": ("sarl", {}, lambda own: transformer_file(own, sadcl=True), {}),
    "Query2Label": ("sarl", {}, lambda own: transformer_file(own, sadcl=False), {}),
    "Query2Label, self-attention": ("sarl", {"self_attention": True}, lambda own: transformer_file(own, sadcl=False), {}),
    "MulCon": ("mulcon", {}, mulcon_file, {"img_size": 64}),
    "CSRA": (
        "csra",
        {},
        lambda own: {
            **backbone_of(own, ""),
            **{f"heads.{n}.weight": own.head.weight[:, n, :, None, None].detach().clone() for n in range(2)},
        },
        {"img_size": 64, "settings": ["model.heads.csra.attention_weight=0.5"]},
    ),
    "ML-Decoder": ("ml_decoder", {}, ml_decoder_file, {"img_size": 64}),
    "ASL": ("pooled", {"backbone": "tresnet_test"}, tresnet_file, {"img_size": 64, "backbone": "tresnet_test"}),
    "timm": (
        "pooled",
        {"backbone": "test_byobnet"},
        lambda own: linear_file(own, "head.fc"),
        {"img_size": 64, "backbone": "test_byobnet"},
    ),
    "torchvision": ("pooled", {}, lambda own: linear_file(own, "fc"), {"img_size": 64}),
}
LINEAR = ("ASL", "timm", "torchvision")


@pytest.mark.parametrize("name", MADE)
def test_a_file_of_each_format_gives_the_scores_of_the_same_weights(tmp_path: Path, name: str) -> None:
    head, options, store, given = MADE[name]
    own = make(head, **options)
    path = write(tmp_path / "theirs.pth", store(own), best_mAP=np.float64(84.9), optimizer={"state": {}})
    result = bring(path, tmp_path / "run", **given)
    assert result.format == ("a classifier of timm or torchvision" if name in LINEAR else name.partition(",")[0])
    assert (result.card.img_size, result.card.classes) == (64, tuple(NAMES.split(",")))
    assert result.tensors + len(result.dropped) == len(store(own))
    with torch.no_grad():
        assert torch.equal(logits(result.path), own(IMAGES).logits)
    assert load(tmp_path / "run", device="cpu").predict(np.zeros((64, 64, 3), dtype=np.uint8), topk=2).labels
    if name == "SADCL":
        classifier: Any = load_model(result.path).classifier
        torch.testing.assert_close(classifier.projection.state_dict(), own.projection.state_dict(), rtol=0, atol=0)
        assert torch.equal(classifier.prototypes, own.prototypes)
        assert result.dropped == {
            "memorybank": "the memory bank serves training alone",
            "backbone.1.pe": "positions are computed",
        }


@torch.no_grad()
def ml_decoder_by_hand(net: Any, head: Any, classes: int) -> Tensor:
    """Return the equations of the paper with the layers of timm's module."""
    layer = head.decoder.layers[0]
    tokens = head.embed_standart(net.forward_features(IMAGES).flatten(2).permute(2, 0, 1)).relu()  # (L, B, D)
    query = layer.norm1(2 * head.query_embed.weight)[:, None].expand(-1, len(IMAGES), -1)  # (N, B, D)
    query = layer.norm2(query + layer.multihead_attn(query, tokens, tokens)[0])
    query = layer.norm3(query + layer.linear2(layer.linear1(query).relu()))
    size = head.duplicate_pooling.shape[2]
    columns = [query[k // size] @ head.duplicate_pooling[k // size, :, k % size] for k in range(classes)]
    result: Tensor = torch.stack(columns, dim=1) + head.duplicate_pooling_bias
    return result


@pytest.mark.parametrize("classes", [4, 7])
def test_ml_decoder_in_the_form_of_timm(tmp_path: Path, classes: int) -> None:
    torch.manual_seed(0)
    net: Any = timm.create_model("test_resnet", num_classes=0).eval()
    head = ml_decoder.MLDecoder(num_classes=classes, num_of_groups=4, decoder_embedding=24, initial_num_features=96).eval()
    stored = {**net.state_dict(), **{f"head.{name}": tensor for name, tensor in head.state_dict().items()}}
    names = ",".join("abcdefg"[:classes])
    result = bring(write(tmp_path / "m.pth", stored), tmp_path / "m.safetensors", classes=names, img_size=64)
    torch.testing.assert_close(logits(result.path), ml_decoder_by_hand(net, head, classes))
    assert result.format == "ML-Decoder"


def test_a_classifier_of_timm_gives_its_scores(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=CLASSES).eval()
    result = bring(write(tmp_path / "m.pth", net.state_dict()), tmp_path / "m.safetensors", img_size=64)
    with torch.no_grad():
        torch.testing.assert_close(logits(result.path), net(IMAGES))
    assert result.assumed["mean"] == "[0.5, 0.5, 0.5], of timm's test_resnet"
    assert bring(tmp_path / "m.pth", tmp_path / "n.safetensors", img_size=64, mean=(0, 0, 0), std=(1, 1, 1)).assumed == {}


def test_a_classifier_that_does_more_than_pool_is_refused(tmp_path: Path) -> None:
    net = timm.create_model("test_convnext", num_classes=CLASSES)
    path = write(tmp_path / "m.pth", net.state_dict())
    with pytest.raises(DataError, match=r"test_convnext|no format"):
        bring(path, tmp_path / "m.safetensors", backbone="test_convnext", img_size=64)


def test_a_resnet_is_known_by_its_tensors(tmp_path: Path) -> None:
    net = timm.create_model("resnet18", num_classes=CLASSES)
    path = write(tmp_path / "m.pth", {f"module.{name}": tensor for name, tensor in net.state_dict().items()})
    assert bring(path, tmp_path / "m.safetensors", backbone="", img_size=64).card.model.backbone == "resnet18"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"classes": ""}, UsageError, "10 classes and no names of them. Name them: --classes FILE"),
        ({"classes": "voc"}, UsageError, "--classes voc names 20"),
        ({"backbone": ""}, DataError, "Name its backbone: --backbone"),
        ({"backbone": "resnet18"}, DataError, "does not hold all tensors of resnet18"),
        ({"backbone": "nothing"}, DataError, "no model 'nothing'"),
        ({"img_size": None}, UsageError, "size of its images. Give it: --img-size 448"),
        ({"settings": []}, UsageError, "does not say CSRA's lambda"),
        ({"ignore": ["heads.1.*"], "settings": ["model.heads.csra.attention_weight=2"]}, None, ""),
        ({"settings": ["model.heads.csra.attention_weight=2", "model.heads.csra.head=2"]}, UsageError, "no option 'head'"),
    ],
)
def test_what_a_file_does_not_say_is_asked_for(
    tmp_path: Path, options: dict[str, Any], error: type[Exception] | None, message: str
) -> None:
    _, _, store, given = MADE["CSRA"]
    path = write(tmp_path / "m.pth", store(make("csra")))
    if error is None:
        assert bring(path, tmp_path / "r", **{**given, **options}).dropped == {"heads.1.weight": "left out by --ignore"}
        return
    with pytest.raises(error, match=re.escape(message)):
        bring(path, tmp_path / "r", **{**given, **options})
    assert not (tmp_path / "r").exists()


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.pth", {**mulcon_file(make("mulcon")), "proj.0.weight": torch.zeros(2, 2)})
    with pytest.raises(DataError, match=r"proj\.0\.weight have no place.*--ignore 'proj\.0\.weight'"):
        bring(path, tmp_path / "r", img_size=64)
    assert bring(path, tmp_path / "r", img_size=64, ignore=["proj.*"]).dropped == {"proj.0.weight": "left out by --ignore"}


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pwned"),)


@pytest.mark.parametrize("name", MADE)
def test_a_file_of_each_format_is_evaluated_as_a_model_of_ours_with_its_weights(tmp_path: Path, trained: Path, name: str) -> None:
    head, options, store, given = MADE[name]
    own, size = make(head, **options), None if head == "sarl" else 64
    theirs: Path = write(tmp_path / f"{given.get('backbone', 'test_resnet')}.pth", store(own))  # the name says the backbone
    about: dict[str, Any] = {"data": trained / "prepared" / "coco", "bootstrap": 0, "device": "cpu", "img_size": size}
    if head == "csra":
        with pytest.raises(UsageError, match=r"CSRA's lambda.*an option of sadcl import"):
            load(theirs, classes=NAMES, img_size=64)
        theirs = bring(theirs, tmp_path / "run", **given).path
    else:
        with pytest.raises(UsageError, match="Name them: --classes FILE"):
            load(theirs, img_size=64)
        if size is not None:
            with pytest.raises(UsageError, match="Give it: --img-size 448"):
                load(theirs, classes=NAMES)
        about |= {"label_options": {"classes": NAMES}}
    card = read_card(theirs) if head == "csra" else read_card(theirs, classes=NAMES, img_size=size)
    section = card.model.model_copy(update={"projection_width": 6})  # which most files do not have
    save_model(tmp_path / "own.safetensors", own.state_dict(), card.model_copy(update={"model": section}))
    results = [evaluate(path, output=tmp_path / path.stem, **about) for path in (theirs, tmp_path / "own.safetensors")]
    assert 0 < results[0].map_interpolated == results[1].map_interpolated < 100
    for column, values in results[0].per_class.items():
        np.testing.assert_array_equal(values, results[1].per_class[column])


def test_a_checkpoint_keeps_no_calibration_and_a_model_its_own_names(tmp_path: Path, trained: Path) -> None:
    path = write(tmp_path / "test_resnet.pth", transformer_file(make("sarl"), sadcl=True))
    with pytest.raises(UsageError, match="Import it: sadcl import"):
        calibrate(path, "f1", data=trained / "prepared" / "coco", label_options={"classes": NAMES})
    with pytest.raises(UsageError, match="names its classes itself"):
        load(trained / "runs" / "coco", classes=NAMES)


def test_nothing_pickled_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "m.pth", {"a": torch.zeros(1)}, best_mAP=Evil())
    (tmp_path / "n.pth").write_bytes(pickle.dumps(Evil()))
    for file in (path, tmp_path / "n.pth"):
        with pytest.raises(DataError, match="loaded safely"):
            bring(file, tmp_path / "r")
    assert not (tmp_path / "pwned").exists()
