from __future__ import annotations

from pathlib import Path

import pytest

from sadcl_core.automatic import Facts
from sadcl_core.config import Layer, RunConfig, load_config_file, parse_assignment, resolve_config
from sadcl_core.errors import UsageError
from sadcl_core.methods import METHODS
from sadcl_core.model.heads.sarl import SARLHead
from sadcl_core.presets import PRESETS, configure


def test_the_last_layer_wins_and_its_name_is_kept() -> None:
    config, sources = resolve_config(
        [
            ("preset", {"optim": {"ema_decay": 0.9, "warmup": 0.1}}),
            ("file", {"optim": {"ema_decay": 0.8}, "stages": {"contrastive": {"epochs": 3}}}),
            ("--set", parse_assignment("optim.ema-decay=0.7")),
        ]
    )
    assert config.optim.ema_decay == 0.7
    assert config.optim.warmup == 0.1
    assert config.stages["contrastive"].epochs == 3
    assert config.stages["contrastive"].losses["sample_to_sample"] == 0.1
    assert sources["optim.ema_decay"] == "--set"
    assert sources["optim.warmup"] == "preset"
    assert sources["stages.contrastive.epochs"] == "file"
    assert sources["seed"] == "default"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("seed=3", 3),
        ("optim.ema_decay=1e-3", 1e-3),
        ("model.pretrained=false", False),
        ("model.backbone=resnet50", "resnet50"),
        ("preset=", ""),
    ],
)
def test_assignments_are_read_as_values(text: str, value: object) -> None:
    nested = parse_assignment(text)
    for part in text.split("=")[0].split("."):
        nested = nested[part]
    assert nested == value


@pytest.mark.parametrize("text", ["seed", "=3", "seed: 3", "seed=[1", "seed={"])
def test_what_is_no_assignment(text: str) -> None:
    with pytest.raises(UsageError):
        parse_assignment(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.emadecay=0.9", "There is no setting optim.emadecay. Did you mean 'optim.ema_decay'"),
        ("optim.ema_decay=2", r"optim.ema_decay=2 \(from --set\) is not valid: Input should be less than 1"),
        ("data.img_size=big", "data.img_size='big'"),
        ("device=tpu", "device='tpu'"),
        ("precision=fp8", "precision='fp8'"),
        ("optim.weight_decay=.nan", "finite"),
        ("stages.contrastive.losses=3", "stages.contrastive.losses=3"),
        ("stages.contrastive.losses.sample_to_sample=-1", "greater than or equal to 0"),
        ("data=3", "data=3"),
    ],
)
def test_impossible_values_name_key_and_origin(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_config([("--set", parse_assignment(text))])


def test_a_written_configuration_gives_the_same_again(tmp_path: Path) -> None:
    from sadcl_core.run_directory import RunDirectory

    first, sources = resolve_config([("preset digits", PRESETS["digits"].layer), ("method", METHODS["baseline"].layer)])
    run = RunDirectory(tmp_path)
    data = first.data.model_copy(update={"manifest": "/a folder with spaces/" * 20})
    first = first.model_copy(update={"data": data})
    run.write_config(first.model_dump(), sources)
    text = (tmp_path / "config.yaml").read_text()
    assert "img_size: 64  # preset digits" in text
    assert "seed: 1  # default" in text
    again, _ = resolve_config([("file", load_config_file(tmp_path / "config.yaml"))])
    assert again == first


@pytest.mark.parametrize("content", ["- a\n", "a: [", "", "\x00"])
def test_what_is_no_configuration_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"c\.yaml"):
        load_config_file(path)
    with pytest.raises(UsageError, match=r"none\.yaml"):
        load_config_file(tmp_path / "none.yaml")


def test_without_a_preset_the_recipe_is_made_from_the_data() -> None:
    configured = configure([], dataset="mine", split_sizes={"train": 942, "val": 10**6})
    assert configured.config.preset == "auto"
    assert configured.sources["data.batch_size"] == "auto: 942 images"
    assert configured.why
    assert any("942 images" in why for _, why in configured.reasons)
    without_data = configure([], dataset="", split_sizes={})
    assert (without_data.config.preset, without_data.reasons) == ("sadcl-r101-448", ())


def test_the_facts_are_asked_for_only_where_the_recipe_is_made_from_them() -> None:
    def facts() -> Facts:
        return Facts(2000, classes=10, short_side=64)

    config = configure([], dataset="mine", split_sizes={"train": 1}, facts=facts).config
    assert (config.data.img_size, config.model.stride, config.model.pretrained) == (64, 8, False)
    assert (config.model.freeze_stride, config.model.freeze_batchnorm) == (0, False)
    hub: list[tuple[str, Layer]] = [("flag", {"model": {"pretrained": True}})]
    model = configure(hub, dataset="mine", split_sizes={"train": 1}, facts=facts).config.model
    assert (model.pretrained, model.stride, model.freeze_stride) == (True, 32, 4)

    def never() -> Facts:
        raise AssertionError("another preset was named")

    assert configure([], dataset="mine", split_sizes={"train": 1}, preset="small", facts=never).reasons == ()


def test_preset_asked_for_or_named_in_a_layer_wins() -> None:
    assert configure([], dataset="digits", split_sizes={"train": 1}, preset="small").config.preset == "small"
    assert configure([("file", {"preset": "small"})], dataset="digits", split_sizes={"train": 1}).config.preset == "small"
    with pytest.raises(UsageError, match="Did you mean 'small'"):
        configure([], dataset="digits", split_sizes={"train": 1}, preset="smal")


def test_a_preset_beside_a_file_of_another_is_refused() -> None:
    with pytest.raises(UsageError, match="made with preset small, not digits"):
        configure([("file", {"preset": "small"})], dataset="digits", split_sizes={"train": 1}, preset="digits")
    assert configure([("file", {"preset": ""})], dataset="digits", split_sizes={"train": 1}).config.preset == "auto"


def test_pretrained_weights_beside_a_file_made_without_them_are_frozen_again() -> None:
    scratch = configure([("flag", {"model": {"pretrained": False}})], dataset="mine", split_sizes={"train": 1}).config
    layers: list[tuple[str, Layer]] = [("file", scratch.model_dump()), ("flag", {"model": {"pretrained": "w.pth"}})]
    again = configure(layers, dataset="mine", split_sizes={"train": 1})
    assert (again.config.model.freeze_stride, again.config.model.freeze_batchnorm) == (4, True)
    assert again.sources["model.freeze_stride"] == "pretrained weights"
    said = configure([*layers, ("--set", {"model": {"freeze_stride": 8}})], dataset="mine", split_sizes={"train": 1}).config
    assert said.model.freeze_stride == 8


def test_no_pretrained_weights_is_understood_however_it_is_spelt() -> None:
    layers: list[tuple[str, Layer]] = [("--set", parse_assignment("model.pretrained=0"))]
    assert configure(layers, dataset="mine", split_sizes={"train": 1}).config.model.freeze_stride == 0


def test_the_recipe_counts_the_split_that_is_trained_on() -> None:
    sizes = {"train": 10**6, "few": 10}
    configured = configure([("--set", {"data": {"train_split": "few"}})], dataset="mine", split_sizes=sizes)
    assert configured.sources["data.batch_size"] == "auto: 10 images"


def test_a_method_asked_for_beside_a_file_of_another_is_what_it_is() -> None:
    for file_method in METHODS:
        file = configure([("flag", {"method": file_method})], dataset="digits", split_sizes={"train": 1}).config
        for method in METHODS:
            layers: list[tuple[str, Layer]] = [("file", file.model_dump()), ("flag", {"method": method})]
            both, alone = (configure(said, dataset="digits", split_sizes={"train": 1}).config for said in (layers, layers[1:]))
            head = alone.model.head  # options of other heads may stay, they are not used
            assert both.model.heads.get(head) == alone.model.heads.get(head)
            model = both.model.model_copy(update={"heads": alone.model.heads})
            assert both.model_copy(update={"model": model}) == alone


def test_a_method_asked_for_does_not_override_what_else_was_said() -> None:
    said: Layer = {"stages": {"contrastive": {"losses": {"sample_to_sample": 0.3}}}}
    for method in METHODS:
        layers: list[tuple[str, Layer]] = [("--set", said), ("flag", {"method": method})]
        losses = configure(layers, dataset="digits", split_sizes={"train": 1}).config.stages["contrastive"].losses
        assert losses["sample_to_sample"] == 0.3
    tuned: list[tuple[str, Layer]] = [("file", {**said, "method": "sadcl"}), ("flag", {"method": "sadcl"})]
    config = configure(tuned, dataset="digits", split_sizes={"train": 1}).config
    assert config.stages["contrastive"].losses["sample_to_sample"] == 0.3


def test_without_pretrained_weights_nothing_is_frozen_unless_asked() -> None:
    def frozen(*layers: tuple[str, Layer]) -> tuple[int, bool, str]:
        configured = configure(list(layers), dataset="mine", split_sizes={"train": 1})
        model = configured.config.model
        return model.freeze_stride, model.freeze_batchnorm, configured.sources["model.freeze_stride"]

    assert frozen() == (4, True, "auto: 1 images")
    random = ("flag", {"model": {"pretrained": False}})
    assert frozen(random) == (0, False, "auto: 1 images")
    assert frozen(random, ("--set", {"model": {"freeze_stride": 8}})) == (8, False, "--set")
    file = ("file", RunConfig().model_dump())  # made with pretrained weights, says everything
    assert frozen(file) == (4, True, "file")
    assert frozen(file, random) == (0, False, "no pretrained weights")


@pytest.mark.parametrize(
    ("method", "head", "first", "second"),
    [
        ("sadcl", "sarl", {"asymmetric": 1}, {"asymmetric": 1, "sample_to_sample": 0.1, "prototype_to_sample": 0.05}),
        ("sarl", "sarl", {"asymmetric": 1}, {}),
        ("sarl-no-encoder", "sarl", {"asymmetric": 1}, {}),
        ("sarl-s2s", "sarl", {"asymmetric": 1}, {"asymmetric": 1, "sample_to_sample": 0.1}),
        ("sarl-p2s", "sarl", {"asymmetric": 1}, {"asymmetric": 1, "prototype_to_sample": 0.05}),
        ("baseline", "pooled", {"asymmetric": 1}, {}),
        ("baseline-two-views", "pooled", {"asymmetric": 1}, {"asymmetric": 1}),
        ("baseline-contrastive", "pooled", {"asymmetric": 1}, {"asymmetric": 1, "image_to_image": 0.5}),
        ("mulcon", "mulcon", {"asymmetric": 1}, {"asymmetric": 1, "sample_to_sample": 0.5}),
        ("mulcon-classification", "mulcon", {"asymmetric": 1}, {"asymmetric": 1}),
        ("query2label", "sarl", {"asymmetric": 1}, {}),
    ],
)
def test_what_each_method_is(method: str, head: str, first: dict[str, float], second: dict[str, float]) -> None:
    config = configure([("flag", {"method": method})], dataset="digits", split_sizes={"train": 1}).config
    assert config.method == method
    assert config.model.head == head == METHODS[method].head
    assert config.stages["classification"].weights == first
    assert config.stages["contrastive"].weights == second
    assert METHODS[method].stages == {name: losses for name, losses in zip(config.stages, (first, second), strict=True) if losses}
    options = config.model.heads.get("sarl", {})
    assert options.get("self_attention", False) == (method == "query2label")
    assert (options.get("encoder_layers") == 0) == (method == "sarl-no-encoder")
    assert (config.loss.sample_to_sample.bank_slots > 0) == (method in ("sadcl", "sarl-s2s"))
    assert config.stages["contrastive"].views == (2 if method.startswith(("mulcon", "baseline-")) else 1)


def test_a_preset_has_its_own_rates_for_a_head() -> None:
    def stage(*layers: tuple[str, Layer]) -> tuple[float, str]:
        configured = configure(layers, dataset="mine", split_sizes={"train": 1}, preset="small")
        source = configured.sources["stages.classification.classifier_lr_scale"]
        return configured.config.stages["classification"].classifier_lr_scale, source

    baseline: tuple[str, Layer] = ("flag", {"method": "baseline"})
    said: tuple[str, Layer] = ("--set", {"stages": {"classification": {"classifier_lr_scale": 2.0}}})
    assert stage()[0] == 1
    assert stage(baseline) == (5, "preset small for pooled")
    assert stage(said, baseline) == (2, "--set")


@pytest.mark.parametrize("preset", [name for name, row in PRESETS.items() if not row.needs_init])
@pytest.mark.parametrize("pretrained", [True, False])
def test_every_configuration_gives_itself_again_and_every_other_method(preset: str, pretrained: bool) -> None:
    def make(*layers: tuple[str, Layer]) -> RunConfig:
        config = configure(layers, dataset="mine", split_sizes={"train": 1}, preset=preset).config
        heads = {config.model.head: config.model.heads.get(config.model.head, {})}  # options of other heads are not used
        return config.model_copy(update={"model": config.model.model_copy(update={"heads": heads})})

    start: tuple[str, Layer] = ("flag", {"model": {"pretrained": pretrained}})
    alone = {method: make(start, ("flag", {"method": method})) for method in METHODS}
    for there in METHODS:
        layers: list[tuple[str, Layer]] = [start, ("flag", {"method": there})]
        written = configure(layers, dataset="mine", split_sizes={"train": 1}, preset=preset).config
        file: tuple[str, Layer] = ("file", written.model_dump())
        assert make(file) == alone[there]
        for here in METHODS:
            assert make(file, ("flag", {"method": here})) == alone[here]


def test_what_was_said_by_itself_is_never_overridden() -> None:
    def model(*texts: str) -> dict[str, object]:
        layers = [("--set", parse_assignment(text)) for text in texts]
        return configure(layers, dataset="digits", split_sizes={"train": 1}).config.model.model_dump()

    assert model("model.freeze_stride=8", "model.pretrained=0")["freeze_stride"] == 8
    assert model("model.freeze_batchnorm=false", "model.pretrained=false", "model.init_from=x")["freeze_batchnorm"] is False
    lr, method = parse_assignment("stages.classification.lr=0.0077"), parse_assignment("method=sadcl")
    layers: list[tuple[str, Layer]] = [("--set", lr), ("--set", method), ("compare", {"method": "baseline"})]
    assert configure(layers, dataset="mine", split_sizes={"train": 1}).config.stages["classification"].lr == 0.0077


def test_unknown_method_and_a_preset_that_goes_on_from_a_model() -> None:
    with pytest.raises(UsageError, match="Did you mean 'mulcon'"):
        configure([("flag", {"method": "mulcom"})], dataset="digits", split_sizes={"train": 1})
    with pytest.raises(UsageError, match="There is no method ''"):
        configure([("flag", {"method": ""})], dataset="digits", split_sizes={"train": 1})
    with pytest.raises(UsageError, match="--init-from"):
        configure([], dataset="voc2007", split_sizes={"train": 1}, preset="sadcl-r101-448-voc")
    layers: list[tuple[str, Layer]] = [("flag", {"model": {"init_from": "runs/coco"}})]
    configured = configure(layers, dataset="voc2007", split_sizes={"train": 1}, preset="sadcl-r101-448-voc")
    assert configured.config.preset == "sadcl-r101-448-voc"


def test_a_preset_may_name_its_method_and_the_user_another() -> None:
    mulcon = configure([], dataset="coco", split_sizes={"train": 1}, preset="mulcon-r101-448")
    assert (mulcon.config.method, mulcon.sources["method"]) == ("mulcon", "preset mulcon-r101-448")
    assert mulcon.config.stages["contrastive"].optimizer == "sgd"
    other = configure([("flag", {"method": "baseline"})], dataset="coco", split_sizes={"train": 1}, preset="mulcon-r101-448")
    assert (other.config.method, other.config.model.head) == ("baseline", "pooled")


def test_mulcon_as_published() -> None:
    config = configure([], dataset="coco", split_sizes={"train": 1}, preset="mulcon-r101-448").config
    first, second = config.stages.values()
    assert (first.optimizer, first.lr) == ("adamw", 2e-4)
    assert (second.optimizer, second.lr, second.backbone_lr_scale, second.head_lr_scale) == ("sgd", 0.01, 0.1, 0.1)
    assert (config.optim.ema_decay, config.model.projection_width, config.data.img_size) == (0.9997, 128, 448)
    assert config.loss.sample_to_sample.temperature == 0.2


@pytest.mark.parametrize(("preset", "size"), [("sadcl-r101-448", 448), ("sadcl-r101-512", 512), ("sadcl-r101-576", 576)])
def test_the_published_preset_spells_out_the_defaults(preset: str, size: int) -> None:
    config = configure([], dataset="coco", split_sizes={"train": 10**5}, preset=preset).config
    defaults = RunConfig()
    data = defaults.data.model_copy(update={"img_size": size})
    heads = {"sarl": SARLHead.Options().model_dump()}
    model = config.model.model_copy(update={"heads": {"sarl": SARLHead.Options(**config.model.heads["sarl"]).model_dump()}})
    losses = {name: stage.weights for name, stage in config.stages.items()}
    assert losses == {name: stage.weights for name, stage in defaults.stages.items()}
    stages = {name: stage.model_copy(update={"losses": losses[name]}) for name, stage in config.stages.items()}
    assert config.model_copy(update={"model": model, "stages": stages}) == defaults.model_copy(
        update={"preset": preset, "data": data, "model": defaults.model.model_copy(update={"heads": heads})}
    )


def test_the_defaults_are_the_published_recipe() -> None:
    config = RunConfig()
    assert config.model.backbone == "resnet101"
    assert (config.data.img_size, config.data.batch_size, config.seed) == (448, 64, 1)
    assert (config.optim.weight_decay, config.optim.warmup, config.optim.ema_decay, config.optim.patience) == (
        5e-3,
        0.2,
        0.9998,
        8,
    )
    assert all(stage.lr == 5e-5 and stage.epochs == 80 for stage in config.stages.values())
    assert config.stages["contrastive"].losses == {"asymmetric": 1.0, "sample_to_sample": 0.1, "prototype_to_sample": 0.05}
    assert (config.loss.sample_to_sample.temperature, config.loss.prototype_to_sample.temperature) == (0.2, 0.07)
