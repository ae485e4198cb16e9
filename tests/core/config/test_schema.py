from __future__ import annotations

import pytest

from sadcl_core.config.automatic import Facts
from sadcl_core.config.layers import Layer, flatten, parse_assignment, resolve_config
from sadcl_core.config.methods import METHODS, find_method
from sadcl_core.config.presets import PRESETS, configure
from sadcl_core.config.schema import RunConfig
from sadcl_core.errors import UsageError


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
        ("seed= 3 ", 3),
        ("seed=3.0", 3),
        ("seed=1e3", 1000),
        ("seed=1_000", 1000),
        ("seed=010", 10),
        ("seed='7'", 7),
        ("data.img-size=64", 64),
        ("optim.ema_decay=1e-3", 1e-3),
        ("optim.ema_decay=.5", 0.5),
        ("optim.weight_decay=1", 1.0),
        ("model.pretrained=false", False),
        ("model.pretrained=No", False),
        ("model.pretrained=0", False),
        ("model.pretrained=on", True),
        ("model.pretrained=w.pth", "w.pth"),
        ("model.pretrained=12", "12"),
        ("model.backbone=resnet50", "resnet50"),
        ("compute.compile=yes", True),
        ("compute.compile=1", True),
        ("data.workers=null", None),
        ("data.workers=0", 0),
        ("preset=", ""),
        ("data.train_split=2007", "2007"),
        ("data.train_split=no", "no"),
        ("data.train_split=1e5", "1e5"),
        ("data.train_split=2024-01-01", "2024-01-01"),
        ("data.train_split='no'", "no"),
        ("data.manifest=[old]/a: b #c", "[old]/a: b #c"),
        ("data.manifest=a=b", "a=b"),
        ("data.manifest=*", "*"),
    ],
)
def test_assignments_are_read_as_they_look(text: str, value: object) -> None:
    config, sources = resolve_config([("--set", parse_assignment(text))])
    (key,) = (key for key, source in sources.items() if source == "--set")
    found = flatten(config.model_dump())[key]
    assert (found, type(found)) == (value, type(value))


def test_a_table_can_be_assigned() -> None:
    config, sources = resolve_config([("--set", parse_assignment("data={img_size: 64, batch_size: 4}"))])
    assert (config.data.img_size, config.data.batch_size, config.data.train_split) == (64, 4, "train")
    assert sources["data.batch_size"] == "--set"


@pytest.mark.parametrize(
    "text",
    [
        "seed",
        "=3",
        "seed: 3",
        "seed=[1",
        "seed={",
        "a..b=1",
        ".a=1",
        "data.dataset='a",
        "a." * 40 + "b=1",
        "seed=*a",
        "seed=!!int 3",
    ],
)
def test_what_is_no_assignment(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--set "):
        parse_assignment(text)


LR = "Did you mean 'stages.classification.lr' or 'stages.contrastive.lr'?"


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("optim.emadecay=0.9", "Did you mean 'optim.ema_decay'?"),
        ("stages.contrastve.epochs=3", "Did you mean 'stages.contrastive.epochs'?"),
        ("stages.third.epochs=3", "Did you mean 'stages.classification.epochs' or 'stages.contrastive.epochs'?"),
        ("stages.contrastive.losses.asymetric=1", "Did you mean 'stages.contrastive.losses.asymmetric'?"),
        ("loss.sample2sample.temperature=1", "Did you mean 'loss.sample_to_sample.temperature'?"),
        ("loss.sample_to_sample.temprature=1", "Did you mean 'loss.sample_to_sample.temperature'?"),
        ("img_size=224", "Did you mean 'data.img_size'?"),
        ("imgsz=224", "Did you mean 'data.img_size'?"),
        ("model.img_size=224", "Did you mean 'data.img_size'?"),
        ("batch=8", "Did you mean 'data.batch_size'?"),
        ("num_workers=2", "Did you mean 'data.workers'?"),
        ("lr=1", LR),
        ("optim.lr=1", LR),
        ("model.zzz=1", "Choose from: backbone, stride, pretrained,"),
        ("zzz.zzz=1", "Choose from: preset, method, seed,"),
    ],
)
def test_a_wrong_key_is_answered_with_the_nearest(text: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_config([("--set", parse_assignment(text))])
    assert str(caught.value).startswith(f"There is no setting {text.partition('=')[0]} (from --set). {advice}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.ema_decay=2", "optim.ema_decay=2 (from --set) is not valid. Give a number from 0 to below 1."),
        ("optim.ema_decay=yes", "optim.ema_decay='yes' (from --set) is not valid. Give a number from 0 to below 1."),
        ("optim.patience=two", "optim.patience='two' (from --set) is not valid. Give a whole number, 1 or more."),
        ("optim.patience=no", "optim.patience='no' (from --set) is not valid. Give a whole number, 1 or more."),
        ("optim.patience=", "optim.patience is empty (from --set). Give a whole number, 1 or more."),
        ("optim.patience=[1, 2]", "optim.patience=[1, 2] (from --set) is not valid. Give a whole number, 1 or more."),
        ("optim.patience={a: 1}", "optim.patience (from --set) is one value and no table. Give a whole number, 1 or more."),
        ("seed.a=1", "seed (from --set) is one value and no table. Give a whole number from 0 to 4,294,967,295."),
        ("seed=3.5", "seed=3.5 (from --set) is not valid. Give a whole number from 0 to 4,294,967,295."),
        ("seed=1:30", "seed='1:30' (from --set) is not valid. Give a whole number from 0 to 4,294,967,295."),
        ("data.img_size=big", "data.img_size='big' (from --set) is not valid. Give a whole number from 16 to 4,096."),
        ("data.workers=none", "data.workers='none' (from --set) is not valid. Give a whole number from 0 to 256, or null."),
        ("data.train_split=null", "data.train_split is empty (from --set). Give text."),
        ("data.sampler=repeat", "data.sampler='repeat' (from --set) is not valid. Did you mean 'repeat-factor'?"),
        ("device=tpu", "device='tpu' (from --set) is not valid. Give auto, cpu, mps, cuda, or one GPU as cuda:1."),
        ("precision=fp8", "precision='fp8' (from --set) is not valid. Choose from: auto, fp32, bf16, fp16."),
        ("compute.compile=2", "compute.compile=2 (from --set) is not valid. Give true or false."),
        ("model.pretrained=null", "model.pretrained is empty (from --set). Give true or false, or text."),
        ("optim.weight_decay=.nan", "optim.weight_decay=nan (from --set) is not valid. Give a number, 0 or more."),
        ("optim.weight_decay=inf", "optim.weight_decay='inf' (from --set) is not valid. Give a number, 0 or more."),
        ("optim.weight_decay=1e400", "optim.weight_decay=inf (from --set) is not valid. Give a number, 0 or more."),
        ("stages.contrastive.lr=0", "stages.contrastive.lr=0 (from --set) is not valid. Give a number above 0."),
        (
            "stages.contrastive.layer_decay=2",
            "stages.contrastive.layer_decay=2 (from --set) is not valid. Give a number above 0 and at most 1.",
        ),
        ("stages.contrastive.losses.sample_to_sample=-1", "is not valid. Give a number, 0 or more."),
        ("stages.contrastive.losses.sample_to_sample=off", "='off' (from --set) is not valid. Give a number, 0 or more."),
        ("stages.contrastive.losses=3", "=3 (from --set) is no table of settings. Set one that is in it, such as"),
        ("data=3", "data=3 (from --set) is no table of settings. Set one that is in it, such as data.dataset."),
        ("data=", "data='' (from --set) is no table of settings. Set one that is in it, such as data.dataset."),
        ("data=[1]", "data=[1] (from --set) is no table of settings. Set one that is in it, such as data.dataset."),
        ("model.heads.sarl=3", "model.heads.sarl=3 (from --set) is no table of settings."),
        ("data.dataset=\udcff", "data.dataset='\\udcff' (from --set) is not valid. Give text"),
        ("seed=" + "9" * 4000, "... (from --set) is not valid. Give a whole number from 0 to 4,294,967,295."),
    ],
)
def test_impossible_values_name_key_origin_and_what_is_expected(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolve_config([("--set", parse_assignment(text))])
    assert message in str(caught.value)
    assert str(caught.value).startswith(text[:4])
    assert len(str(caught.value)) < 250


def mistake(*layers: tuple[str, Layer]) -> str:
    with pytest.raises(UsageError) as caught:
        resolve_config(layers)
    return str(caught.value)


def test_of_several_mistakes_the_first_is_told_and_how_many_more() -> None:
    size: tuple[str, Layer] = ("--set", {"data": {"img_size": "big"}})
    message = mistake(("c.yaml", {"seeed": 1, "optim": {"patience": 0}}), size)
    assert message == "There is no setting seeed (from c.yaml). Did you mean 'seed'? 2 more settings are wrong, too."
    message = mistake(("c.yaml", {"seed": -1}), size)
    assert message.startswith("seed=-1 (from c.yaml) is not valid. ")
    assert message.endswith(" 1 more setting is wrong, too.")
    message = mistake(("c.yaml", {"a" * (number + 1): number for number in range(2000)}))
    assert message.endswith(" 1999 more settings are wrong, too.")
    assert len(mistake(("c.yaml", {"a" * 10**5: 1}))) < 500


def test_a_value_that_a_stronger_layer_replaces_is_not_told() -> None:
    layers = [("c.yaml", {"optim": {"patience": 0}}), ("--set", parse_assignment("optim.patience=3"))]
    assert resolve_config(layers)[0].optim.patience == 3


def test_nothing_where_a_table_is_meant_sets_nothing() -> None:
    layer = {"model": None, "stages": {"contrastive": None}, "loss": {}, "data": {"workers": None}}
    assert resolve_config([("c.yaml", layer)])[0] == RunConfig()


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
    assert (model.pretrained, model.stride, model.freeze_stride) == (True, 32, 16)

    def never() -> Facts:
        raise AssertionError("another preset was named")

    assert configure([], dataset="mine", split_sizes={"train": 1}, preset="small", facts=never).reasons == ()


def test_preset_asked_for_or_named_in_a_layer_wins() -> None:
    assert configure([], dataset="digits", split_sizes={"train": 1}, preset="small").config.preset == "small"
    assert configure([("file", {"preset": "small"})], dataset="digits", split_sizes={"train": 1}).config.preset == "small"
    with pytest.raises(UsageError, match="Did you mean 'small'"):
        configure([], dataset="digits", split_sizes={"train": 1}, preset="smal")


def test_an_empty_preset_in_a_file_is_none() -> None:
    assert configure([("file", {"preset": ""})], dataset="digits", split_sizes={"train": 1}).config.preset == "auto"


def test_a_file_made_without_pretrained_weights_freezes_nothing_with_them() -> None:
    scratch = configure([("flag", {"model": {"pretrained": False}})], dataset="mine", split_sizes={"train": 1}).config
    layers: list[tuple[str, Layer]] = [("file", scratch.model_dump()), ("flag", {"model": {"pretrained": "w.pth"}})]
    again = configure(layers, dataset="mine", split_sizes={"train": 1})
    assert (again.config.model.freeze_stride, again.sources["model.freeze_stride"]) == (0, "file")


def test_a_file_that_would_freeze_random_layers_is_refused() -> None:
    file: tuple[str, Layer] = ("c.yaml", RunConfig().model_dump())  # made with pretrained weights, names every setting
    random: tuple[str, Layer] = ("flag", {"model": {"pretrained": False}})
    with pytest.raises(UsageError) as caught:
        configure([file, random], dataset="mine", split_sizes={"train": 1})
    advice = "--set model.freeze_stride=0 --set model.freeze_batchnorm=false"
    assert str(caught.value) == (
        "c.yaml was made with pretrained weights, and its model.freeze_stride would keep random layers as they are. "
        f"Add {advice}."
    )
    assignments = [("--set", parse_assignment(text)) for text in advice.split()[1::2]]
    model = configure([file, *assignments, random], dataset="mine", split_sizes={"train": 1}).config.model
    assert (model.freeze_stride, model.freeze_batchnorm) == (0, False)
    by_hand: tuple[str, Layer] = ("mine.yaml", {"model": {"freeze_stride": 8}})
    assert configure([by_hand, random], dataset="mine", split_sizes={"train": 1}).config.model.freeze_stride == 8


def test_no_pretrained_weights_is_understood_however_it_is_spelt() -> None:
    layers: list[tuple[str, Layer]] = [("--set", parse_assignment("model.pretrained=0"))]
    assert configure(layers, dataset="mine", split_sizes={"train": 1}).config.model.freeze_stride == 0


def test_the_recipe_counts_the_split_that_is_trained_on() -> None:
    sizes = {"train": 10**6, "few": 10}
    configured = configure([("--set", {"data": {"train_split": "few"}})], dataset="mine", split_sizes=sizes)
    assert configured.sources["data.batch_size"] == "auto: 10 images"


@pytest.mark.parametrize("key", ["method", "preset"])
def test_a_file_made_for_another_method_or_preset_is_refused(key: str) -> None:
    theirs, ours = {"method": ("sadcl", "baseline"), "preset": ("small", "digits")}[key]
    file = configure([("flag", {key: theirs})], dataset="digits", split_sizes={"train": 1}).config
    with pytest.raises(UsageError) as caught:
        configure([("c.yaml", file.model_dump()), ("flag", {key: ours})], dataset="digits", split_sizes={"train": 1})
    assert str(caught.value) == (
        f"c.yaml was made with {key} {theirs}, not {ours}. Leave out one of the two, or make another file: "
        f"sadcl train --{key} {ours} --print-config > {ours}.yaml."
    )
    layers: list[tuple[str, Layer]] = [("c.yaml", file.model_dump()), ("flag", {key: theirs})]
    assert configure(layers, dataset="digits", split_sizes={"train": 1}).config == file
    single: list[tuple[str, Layer]] = [("--set", {key: theirs}), ("flag", {key: ours})]
    assert getattr(configure(single, dataset="digits", split_sizes={"train": 1}).config, key) == ours


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

    assert frozen() == (16, True, "auto: 1 images")
    random = ("flag", {"model": {"pretrained": False}})
    assert frozen(random) == (0, False, "no pretrained weights")
    assert frozen(random, ("--set", {"model": {"freeze_stride": 8}})) == (8, False, "--set")
    file = ("file", RunConfig().model_dump())  # made with pretrained weights, says everything
    assert frozen(file) == (4, True, "file")


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
        ("query2label-self-attention", "sarl", {"asymmetric": 1}, {}),
        ("baseline-max", "pooled", {"asymmetric": 1}, {}),
        ("baseline-gem", "pooled", {"asymmetric": 1}, {}),
        ("csra", "csra", {"asymmetric": 1}, {}),
        ("ml-decoder", "ml_decoder", {"asymmetric": 1}, {}),
        ("ml-gcn", "generated", {"asymmetric": 1}, {}),
        ("dsdl", "generated", {"asymmetric": 1, "dictionary": 1}, {}),
        ("add-gcn", "add_gcn", {"asymmetric": 1}, {}),
        ("ssgrl", "ssgrl", {"asymmetric": 1}, {}),
        ("kggr", "ssgrl", {"asymmetric": 1}, {}),
        ("c-tran", "c_tran", {"asymmetric": 1}, {}),
        ("tdrg", "tdrg", {"asymmetric": 1, "auxiliary": 1}, {}),
        ("adahgnn", "adahgnn", {"asymmetric": 1}, {}),
        ("sst", "sst", {"asymmetric": 1}, {}),
        ("p-gcn", "p_gcn", {"asymmetric": 1}, {}),
        ("ms-cma", "ms_cma", {"asymmetric": 1, "penalty": 1}, {}),
        ("ccd", "debiased", {"asymmetric": 1}, {"asymmetric": 1}),
        ("cpcl", "cpcl", {"asymmetric": 1, "hinge": 1}, {}),
        ("rnn-att", "rnn_att", {"asymmetric": 1, "penalty": 0.1}, {}),
        ("mcar", "pooled", {"asymmetric": 1, "auxiliary": 1}, {}),
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
    assert options.get("self_attention", False) == (method == "query2label-self-attention")
    assert (options.get("encoder_layers") == 0) == (method == "sarl-no-encoder")
    assert config.stages["classification"].known_share == (0.75 if method == "c-tran" else 0)
    assert (config.loss.sample_to_sample.bank_slots > 0) == (method in ("sadcl", "sarl-s2s"))
    assert config.stages["contrastive"].views == (2 if method in TWO_VIEWS else 1)


TWO_VIEWS = ("mulcon", "mulcon-classification", "baseline-contrastive", "baseline-two-views")


def test_contrast_that_is_added_to_a_method_goes_with_its_own_losses() -> None:
    def config(method: str, **weights: float) -> RunConfig:
        layers: list[tuple[str, Layer]] = [("flag", {"method": method})]
        layers += [("--set", {"stages": {"contrastive": {"losses": {name: weight}}}}) for name, weight in weights.items()]
        return configure(layers, dataset="mine", split_sizes={"train": 1}, preset="small").config

    tdrg = config("tdrg", sample_to_sample=0.1, prototype_to_sample=0.05)
    sadcl = config("sadcl")
    assert tdrg.stages["contrastive"].weights == {**sadcl.stages["contrastive"].weights, "auxiliary": 1.0}
    assert tdrg.loss == sadcl.loss  # with the memory bank
    assert config("csra", prototype_to_sample=0.05, asymmetric=0.0).stages["contrastive"].weights == {"prototype_to_sample": 0.05}
    assert config("ccd", prototype_to_sample=0.05).loss.sample_to_sample.bank_slots == 0  # it has a second stage of its own
    assert not config("tdrg", sample_to_sample=0.0).stages["contrastive"].weights
    assert config("linear-probe", prototype_to_sample=1.0).stages["contrastive"].weights == {"prototype_to_sample": 1.0}
    named = config("tdrg+s2s+p2s")
    assert (named.stages, named.loss) == (tdrg.stages, tdrg.loss)
    assert config("sarl+p2s").stages == config("sarl-p2s").stages
    for name, message in (("sadcl+s2s", "is there twice"), ("tdrg+i2i", "Choose from: s2s, p2s"), ("tdrgg+s2s", "mean 'tdrg'")):
        with pytest.raises(UsageError, match=message):
            find_method(name)


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


@pytest.mark.parametrize(
    ("preset", "method", "expected"),
    [
        ("wildcat-r101-448", "ml-gcn", ("sgd", 0.01, 100, 16, "step", [0.4, 0.8], "fixed-crops")),
        ("wildcat-r101-448", "dsdl", ("sgd", 0.01, 200, 32, "step", [0.2], "fixed-crops")),
        ("wildcat-r101-448", "add-gcn", ("sgd", 0.05, 50, 16, "step", [0.6, 0.8], "fixed-crops")),
        ("wildcat-r101-448", "tdrg", ("sgd", 0.03, 50, 64, "step", [0.8], "fixed-crops")),
        ("wildcat-r101-448", "cpcl", ("sgd", 0.01, 170, 16, "step", [30 / 170], "fixed-crops")),
        ("asl-r101-448", "ml-decoder", ("adam", 1e-4, 40, 56, "one-cycle", [0.6, 0.8], "cutout-randaugment")),
        ("asl-r101-448", "ccd", ("adam", 1e-4, 80, 128, "one-cycle", [0.6, 0.8], "cutout-randaugment")),
        ("ctran-r101-576", "c-tran", ("adam", 1e-5, 100, 16, "plateau", [0.6, 0.8], "square-crops")),
        ("ctran-r101-576", "ssgrl", ("adam", 1e-5, 200, 4, "step", [], "square-crops-unflipped")),
    ],
)
def test_the_recipes_that_papers_share(preset: str, method: str, expected: tuple[object, ...]) -> None:
    config = configure([("flag", {"method": method})], dataset="coco", split_sizes={"train": 82_081}, preset=preset).config
    stage = config.stages["contrastive"]  # of which CCD has another length than of the first
    schedule = (config.optim.schedule, config.optim.milestones)
    assert (stage.optimizer, stage.lr, stage.epochs, config.data.batch_size, *schedule, stage.augment) == expected
    assert config.optim.patience >= stage.epochs  # no epoch is left out
    if preset == "asl-r101-448":  # beside a loss that is a sum over the batch and the classes of COCO
        count = config.data.batch_size * 80
        assert (config.optim.weight_decay * count, config.optim.epsilon * count) == pytest.approx((1e-4, 1e-8))


@pytest.mark.parametrize("preset", [name for name, row in PRESETS.items() if not row.needs_init])
@pytest.mark.parametrize("pretrained", [True, False])
def test_every_configuration_gives_itself_again(preset: str, pretrained: bool) -> None:
    start: tuple[str, Layer] = ("flag", {"model": {"pretrained": pretrained}})
    for method in METHODS:
        flags = [start, ("flag", {"method": method})]
        first = configure(flags, dataset="mine", split_sizes={"train": 1}, preset=preset).config
        file = ("file", first.model_dump())
        assert configure([file], dataset="mine", split_sizes={"train": 1}).config == first
        assert configure([file, *flags], dataset="mine", split_sizes={"train": 1}, preset=preset).config == first


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


@pytest.mark.parametrize("size", [512, 576])
def test_the_published_presets_differ_in_the_size_of_the_images_alone(size: int) -> None:
    name = f"sadcl-r101-{size}"
    other = configure([], dataset="coco", split_sizes={"train": 10**5}, preset=name).config
    config = configure([], dataset="coco", split_sizes={"train": 10**5}, preset="sadcl-r101-448").config
    assert other == config.model_copy(update={"preset": name, "data": config.data.model_copy(update={"img_size": size})})


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
