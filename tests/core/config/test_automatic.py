from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sadcl_core.config.automatic import BANK_CLASSES, HEAD_FLOATS, Facts, choose
from sadcl_core.config.layers import Layer, flatten, nest, resolve_config
from sadcl_core.config.methods import METHODS
from sadcl_core.config.presets import PRESETS, configure
from sadcl_core.config.schema import RunConfig
from sadcl_core.model.heads.ml_decoder import MLDecoderHead
from sadcl_core.model.heads.mulcon import MulConHead
from sadcl_core.model.heads.sarl import SARLHead
from sadcl_core.registry import AUGMENTATIONS
from sadcl_core.training.setup import check_stages

WHOLE: Layer = {"features": {"once": False}}  # all layers are trained, on a CPU as well
FACTS = st.builds(
    Facts,
    images=st.integers(0, 3_000_000),
    classes=st.integers(1, 20_000),
    short_side=st.none() | st.integers(1, 10_000),
    pretrained=st.sampled_from([None, True, False]),
    device=st.sampled_from(["cpu", "mps", "cuda"]),
)


def config_of(facts: Facts, said: Layer | None = None) -> RunConfig:
    recipe = choose(facts, flatten(said or {}))
    return resolve_config([("auto", recipe.layer), ("user", said or {})])[0]


@settings(max_examples=200, deadline=None)
@given(FACTS)
def test_any_data_gets_a_valid_recipe_and_reasons(facts: Facts) -> None:
    config = config_of(facts)
    SARLHead.Options(**config.model.heads["sarl"])
    MulConHead.Options(**config.model.heads["mulcon"])
    MLDecoderHead.Options(**config.model.heads.get("ml_decoder", {}))
    for stage in config.stages.values():
        assert stage.augment in AUGMENTATIONS
        assert 1 <= stage.epochs <= 300
        assert 1e-5 <= stage.lr <= 2e-3
    assert config.data.img_size % config.model.stride == 0
    assert config.data.img_size // config.model.stride >= 3
    assert config.model.freeze_batchnorm == (config.model.pretrained is not False and facts.pretrained is not False)
    assert all(what and why for what, why in choose(facts).reasons)


@settings(max_examples=40, deadline=None)
@given(FACTS, st.sampled_from(list(METHODS)))
def test_a_recipe_written_down_gives_itself_again(facts: Facts, method: str) -> None:
    def make(*layers: tuple[str, Layer]) -> RunConfig:
        sizes = {"train": facts.images}
        start: Layer = {} if facts.pretrained is None else {"model": {"pretrained": facts.pretrained}}
        given = [("flag", start), *layers]
        return configure(given, dataset="mine", split_sizes=sizes, facts=lambda: facts).config

    first = make(("flag", {"method": method}))
    assert make(("file", first.model_dump())) == first


@settings(max_examples=100, deadline=None)
@given(
    FACTS, st.integers(1, 512), st.integers(0, 300), st.integers(16, 1024), st.sampled_from(["resnet50", "vit_small_patch16_224"])
)
def test_what_the_user_says_stays(facts: Facts, batch: int, epochs: int, size: int, backbone: str) -> None:
    said: Layer = {
        "data": {"batch_size": batch, "img_size": size},
        "model": {"backbone": backbone},
        "stages": {"classification": {"epochs": epochs}},
    }
    config = config_of(facts, said)
    assert (config.data.batch_size, config.data.img_size, config.model.backbone) == (batch, size, backbone)
    assert config.stages["classification"].epochs == epochs
    assert not {"img_size", "batch_size"} & {what.split()[0] for what, _ in choose(facts, flatten(said)).reasons}


@pytest.mark.parametrize(
    ("method", "said", "present", "absent"),
    [
        ("sadcl", {}, ("width 256", "projection_width 128", "beside the head", "lr 0.0003, then 6e-05"), ()),
        ("ssgrl", {}, ("width 256", "beside the head"), ("projection_width", "then")),
        ("ssgrl", {"model.heads.ssgrl.width": 64}, ("epochs",), (" width", "projection_width", "then")),
        ("ssgrl", {"model.heads.sarl.width": 64}, ("width 256",), ("projection_width",)),
        ("mulcon-classification", {}, ("then",), ("projection_width",)),
        ("mcar", {}, ("lr",), ("width", "then", "linear layer")),
        ("baseline", {}, ("a linear layer fitted first",), ("width", "then 6e-05", "beside")),
        ("baseline-contrastive", {}, ("projection_width 128", "then 6e-05"), (" width",)),
        ("sadcl", {"stages.contrastive.epochs": 0}, ("width 256", "lr 0.0003"), ("projection_width", "then 6e-05")),
        ("sadcl", {"features.views": 5}, ("computed once (", "ema_decay"), ("views",)),
        ("linear-probe", {}, ("computed once (a CPU: in minutes)",), ("width", "epochs", "lr", "views", "frozen up to", "ema")),
    ],
)
def test_reasons_are_of_what_the_method_trains_and_the_user_left_open(
    method: str, said: dict[str, Any], present: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    facts = Facts(942, classes=20, short_side=216)
    layers: list[tuple[str, Layer]] = [("flag", {"method": method}), ("--set", nest(said))]
    reasons = configure(layers, dataset="mine", split_sizes={"train": 942}, facts=lambda: facts).reasons
    text = "\n".join(f" {what} ({why})" for what, why in reasons)
    assert [words for words in present if words not in text] == []
    assert [words for words in absent if words in text] == []


def test_a_linear_probe_keeps_its_backbone_as_it_is_beside_a_method_that_trains_the_last_stage() -> None:
    frozen, facts = {}, Facts(942, classes=20, short_side=216)
    for method in ("linear-probe", "baseline"):
        configured = configure([("flag", {"method": method})], dataset="mine", split_sizes={"train": 942}, facts=lambda: facts)
        frozen[method] = configured.config.model.freeze_stride
    assert frozen == {"linear-probe": METHODS["linear-probe"].layer["model"]["freeze_stride"], "baseline": 16}


def test_the_papers_data_gets_about_the_papers_recipe() -> None:
    config = config_of(Facts(82_783, classes=80, short_side=480, pretrained=True, device="cuda"))
    published = flatten(resolve_config([("p", PRESETS["sadcl-r101-448"].layer)])[0].model_dump())
    own = flatten(config.model_dump())
    filled = {**own, **{f"model.heads.sarl.{key}": value for key, value in SARLHead.Options().model_dump().items()}}
    assert {key for key, value in published.items() if filled[key] != value} == {
        "data.drop_last",
        "loss.sample_to_sample.bank",
        "model.backbone",
        "model.freeze_affine",
        "model.heads.sarl.initialisation",
        "optim.decayed",
        "optim.ema_start",
        "optim.epsilon",
        "optim.evaluate",
        "optim.patience",
        "stages.classification.augment",
        "stages.classification.gamma_neg",
        "stages.contrastive.gamma_neg",
    }
    assert config.model.heads["sarl"] == {"width": 2048, "feedforward": 8192}
    million = config_of(Facts(10**6, classes=80, short_side=480, pretrained=True, device="cuda"))
    assert million.stages["classification"].epochs == 6
    assert million.optim.ema_decay == 0.9998


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(50, 3, 500), {"model.backbone": "mobilenetv2_100", "data.img_size": 288, "data.batch_size": 16}),
        (Facts(500, 10, 64), {"model.pretrained": False, "data.img_size": 64, "model.stride": 8, "data.batch_size": 16}),
        (Facts(500, 10, 64, pretrained=True), {"data.img_size": 160, "model.stride": 32}),
        (Facts(942, 20, 216, pretrained=False), {"model.backbone": "resnet18", "model.stride": 16}),
        (Facts(5000, 40, 500), {"data.batch_size": 32, "stages.classification.augment": "flip-and-crop"}),
        (Facts(5000, 40, 500, device="cuda"), {"model.backbone": "resnet50", "data.img_size": 448}),
        (Facts(10**6, 80, 500), {"model.backbone": "mobilenetv2_100", "stages.classification.epochs": 4}),
        (Facts(942, 20, 216, weights="w/resnet34-abc.pth"), {"model.backbone": "resnet34"}),
        (Facts(942, 20, 216, weights="w/resnet34d.pth"), {"model.backbone": "mobilenetv2_100"}),
        (Facts(10**5, 5000, 500, pretrained=True, device="cuda"), {"model.heads.sarl.width": 256, "data.batch_size": 32}),
        (Facts(942, 20, None), {"data.img_size": 288}),
        (Facts(942, 20, 216, weights="w/tf_efficientnet_lite0.safetensors"), {"model.backbone": "tf_efficientnet_lite0"}),
    ],
)
def test_what_is_chosen_for_whom(facts: Facts, expected: dict[str, Any]) -> None:
    chosen = flatten(choose(facts).layer)
    assert {key: chosen[key] for key in expected} == expected


def test_fewer_images_are_seen_more_often_and_learned_in_smaller_steps() -> None:
    recipes = [config_of(Facts(images, classes=20, short_side=400)) for images in (50, 200, 1000, 5000, 20_000)]
    epochs = [recipe.stages["classification"].epochs for recipe in recipes]
    assert epochs == sorted(epochs, reverse=True)
    batches = [recipe.data.batch_size for recipe in recipes]
    assert batches == sorted(batches)


def test_the_average_follows_the_steps_that_the_user_makes() -> None:
    facts = Facts(942, classes=20, short_side=216)

    def decay(**epochs: int) -> float:
        return config_of(facts, {"stages": {name: {"epochs": count} for name, count in epochs.items()}}).optim.ema_decay

    assert decay(classification=40) > decay(classification=10)
    assert decay(classification=0, contrastive=40) == decay(classification=40)
    assert 0.8 <= decay(classification=0, contrastive=0) <= decay(classification=1) < 1
    larger = config_of(facts, {"data": {"batch_size": 64}, **WHOLE})
    assert larger.optim.ema_decay < config_of(facts, WHOLE).optim.ema_decay
    assert larger.stages["classification"].lr == pytest.approx(1e-3 * math.sqrt(2), rel=0.05)


def test_few_steps_are_larger_up_to_those_of_a_whole_batch() -> None:
    def rate(images: int) -> float:
        return config_of(Facts(images, classes=20, short_side=400), WHOLE).stages["classification"].lr

    assert (rate(80), rate(942), rate(5000)) == (1e-3, 7.1e-4, 1e-3)
    few: Layer = {"stages": {"classification": {"epochs": 3}}, **WHOLE}
    assert config_of(Facts(942, classes=20, short_side=400), few).stages["classification"].lr == 1e-3


def test_many_classes_make_the_head_narrower_and_the_batch_smaller() -> None:
    for device, most in HEAD_FLOATS.items():
        for classes in (80, 500, 5000, 20_000):
            config = config_of(Facts(10**5, classes=classes, short_side=500, device=device))
            assert config.data.batch_size * classes * config.model.heads["sarl"]["feedforward"] <= most
            present = config.loss.sample_to_sample.bank_classes == "present"
            assert present == (classes >= BANK_CLASSES)


def test_a_vision_transformer_has_the_stride_of_its_patches() -> None:
    for name, stride in (("vit_small_patch14_dinov2", 14), ("deit_tiny_patch16_224", 16), ("swin_tiny_patch4_window7_224", 32)):
        config = config_of(Facts(1000, classes=10, short_side=500), {"model": {"backbone": name}})
        assert config.model.stride == stride
        assert config.data.img_size % stride == 0


def test_widths_follow_the_width_of_the_user() -> None:
    heads: Layer = {"model": {"heads": {"sarl": {"width": 64}}}}
    config = config_of(Facts(942, classes=20), heads)
    assert config.model.heads["sarl"] == {"width": 64, "feedforward": 128}
    assert (config.model.heads["mulcon"]["width"], config.model.projection_width) == (64, 32)
    for nonsense in ("wide", 0, None, -4):
        assert config_of(Facts(942), {"model": {"heads": {"sarl": {"width": nonsense}}}}).model.projection_width == 128


def test_shared_queries_stay_as_wide_with_many_classes() -> None:
    few, many = (config_of(Facts(942, classes=classes)).model.heads for classes in (20, 5000))
    assert few["ml_decoder"] == many["ml_decoder"] == {"width": 256, "feedforward": 512}
    assert many["sarl"]["width"] < few["sarl"]["width"] == 256


def test_a_linear_layer_has_rates_of_its_own() -> None:
    def stage(pretrained: bool, method: str) -> tuple[float, float]:
        layers: list[tuple[str, Layer]] = [("flag", {"method": method, "model": {"pretrained": pretrained}, **WHOLE})]
        first = configure(layers, dataset="mine", split_sizes={"train": 942}).config.stages["classification"]
        return first.backbone_lr_scale, first.classifier_lr_scale

    assert (stage(True, "sarl"), stage(True, "baseline")) == ((0.1, 1), (0.1, 5))
    assert (stage(False, "sarl"), stage(False, "baseline")) == ((1, 1), (3, 3))


def test_without_a_gpu_the_frozen_layers_are_computed_once_and_a_linear_layer_is_fitted() -> None:
    facts = Facts(942, classes=20, short_side=216)
    config = config_of(facts)
    assert (config.features.once, config.model.freeze_stride, config.optim.select) == (True, 16, "last")
    assert (config.optim.solve_linear, config.model.global_branch) == (True, "root-mean")
    assert config.optim.time_budget == 600
    many = config_of(Facts(10**5, classes=5000, short_side=500))
    assert (many.features.once, many.optim.solve_linear, many.model.global_branch) == (True, False, "none")
    others: list[tuple[Facts, Layer]] = [
        (replace(facts, device="cuda"), {}),
        (replace(facts, pretrained=False), {}),
        (facts, WHOLE),
        (facts, {"model": {"backbone": "crossvit_tiny_240"}}),  # cannot be cut
        (facts, {"model": {"init_from": "runs/coco"}}),
        (facts, {"model": {"second_look": 4}}),  # of images
    ]
    for other, layer in others:
        config = config_of(other, layer)
        assert (config.features.once, config.optim.solve_linear, config.optim.time_budget) == (False, False, 0)
    whole = config_of(facts, {"model": {"backbone": "vit_small_patch14_dinov2"}})
    assert (whole.features.once, whole.model.freeze_stride) == (True, 64)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_be_trained_untouched(method: str, device: str) -> None:
    facts = Facts(942, classes=20, short_side=216, device=device)
    layers: list[tuple[str, Layer]] = [("flag", {"method": method})]
    check_stages(configure(layers, dataset="mine", split_sizes={"train": 942}, facts=lambda: facts).config)


def test_a_pooled_head_is_the_linear_layer_itself() -> None:
    sizes, facts = {"train": 942}, Facts(942, classes=20, short_side=216)
    config = configure([("flag", {"method": "baseline"})], dataset="mine", split_sizes=sizes, facts=lambda: facts).config
    assert (config.model.global_branch, config.model.heads["pooled"]["standardise"]) == ("none", True)
    assert config.stages["classification"].classifier_lr_scale < 1
