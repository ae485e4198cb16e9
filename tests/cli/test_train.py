from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch

from sadcl_core.config.layers import flatten
from sadcl_core.config.methods import METHODS
from sadcl_core.config.presets import PRESETS
from sadcl_core.config.schema import RunConfig
from sadcl_core.config.yaml import parse_yaml, read_table
from sadcl_core.registry import HEADS
from sadcl_core.runs.checkpoint import load_model
from tests.conftest import QUICK, Sadcl, draw, make_coco
from tests.core.training.resumable import weights_file


def test_the_run_directory_holds_everything(trained: Path) -> None:
    run = trained / "runs" / "coco"
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "run.json",
        "results.csv",
        "metrics.jsonl",
        "prototypes.json",
        "weights/best.safetensors",
        "weights/last.safetensors",
    } <= names
    status = json.loads((run / "run.json").read_text())
    assert status["status"] == "finished"
    assert status["dataset"] == "coco"
    assert status["eval_split"] == "val"
    assert {"sadcl", "torch", "timm", "python"} <= set(status["versions"])
    rows = (run / "results.csv").read_text().splitlines()
    assert len(rows) == 1 + 3
    assert rows[0].startswith("stage,epoch,seconds,images_per_second,lr,loss,asymmetric,sample_to_sample,prototype_to_sample")
    best = max(float(row.split(",")[-2]) for row in rows[1:])
    assert status["best"]["mAP_interpolated"] == pytest.approx(best)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"classification", "contrastive"}
    assert all(math.isfinite(value) for line in lines for value in line.values() if isinstance(value, float))
    coverage = json.loads((run / "prototypes.json").read_text())["classes"]
    assert len(coverage) == 10
    assert all(entry["made_from"] for entry in coverage)


def test_values_know_where_they_came_from(trained: Path) -> None:
    text = (trained / "runs" / "coco" / "config.yaml").read_text()
    for line in (
        "img_size: 64  # flag",
        "stride: 16  # --set",
        "temperature: 0.07  # default",
        "preset: auto  # preset auto",
        "batch_size: 8  # flag",
        "patience: 8  # auto: 24 images",
        "eval_split: val  # data set",
    ):
        assert line in text


def test_model_files_explain_themselves(trained: Path) -> None:
    for name in ("best", "last"):
        card = load_model(trained / "runs" / "coco" / "weights" / f"{name}.safetensors").card
        assert card.classes[0] == "zero"
        assert card.superclasses[0] == "loop"
        assert card.img_size == 64
        assert card.has_prototypes
        assert card.trained["dataset"] == "coco"


def test_the_same_seed_gives_the_same_run(sadcl: Sadcl, coco: Path, trained: Path) -> None:
    sadcl("train", "coco", "--data", coco, *QUICK)

    def numbers(run: Path) -> list[list[str]]:
        return [row.split(",")[4:] for row in (run / "results.csv").read_text().splitlines()]

    assert numbers(Path("runs/coco")) == numbers(trained / "runs" / "coco")


def test_a_configuration_file_gives_the_same_settings(sadcl: Sadcl, coco: Path, trained: Path) -> None:
    file = trained / "runs" / "coco" / "config.yaml"
    sadcl("train", "coco", "--data", coco, "--config", file, "--epochs", "1,0", "-o", "again")
    first, again = (read_table(path) for path in (file, Path("again/config.yaml")))
    assert again["stages"]["classification"]["epochs"] == 1
    for values in (first, again):
        values.pop("stages")
        values["data"].pop("manifest")
    assert again == first


def test_output_is_one_document_with_json_and_lines_without(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("train", "coco", "--data", coco, *QUICK, "--epochs", "1", "--json", "-q")
    document = json.loads(ran.stdout)
    assert document["run"] == "runs/coco"
    assert Path(document["model"]).is_file()
    assert ran.stderr == ""
    ran = sadcl("train", "coco", *QUICK, "--epochs", "1")
    assert ran.stdout.splitlines()[-1] == "results saved to runs/coco-2"
    assert "best EMA mAP" in ran.stdout
    for words in (
        "preset auto",
        "auto: ema_decay",
        "stage 1/2 classification",
        "stage 2/2 contrastive",
        "images/s",
        "S2S",
        "P2S",
        "prototypes:",
    ):
        assert words in ran.stderr


def test_baseline_has_one_stage_and_no_contrastive_terms(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("train", "coco", "--data", coco, *QUICK, "--method", "baseline")
    header, *rows = Path("runs/coco/results.csv").read_text().splitlines()
    assert "sample_to_sample" not in header
    assert len(rows) == 2
    assert "stage 1/1" in ran.stderr
    assert not Path("runs/coco/prototypes.json").exists()
    assert "has no prototypes" in (error := sadcl("visualize", "prototypes", code=3).stderr)
    assert "Train a method that has them" in error


def test_trains_from_a_prepared_folder(sadcl: Sadcl, coco: Path) -> None:
    sadcl("prepare-data", "coco", "--data", coco, "-o", "elsewhere")
    sadcl("train", "elsewhere", *QUICK, "--epochs", "1,0")


def put_pets(folder: Path, *, unknown: str = "0") -> Path:
    """Forty images in a table with a column per class; of dogs it is never said that there is none when it is unknown."""
    draw(folder, 40, seed=3)
    lines = [f"{k:03d}.png,{k % 2},{'1' if k % 3 == 0 else unknown},{int(k % 5 == 0)}\n" for k in range(40)]
    (folder / "labels.csv").write_text(f"image,cat,dog,Cat\n{''.join(lines)}")
    return folder


def test_a_folder_is_prepared_and_what_is_wrong_with_it_is_said(sadcl: Sadcl) -> None:
    ran = sadcl("train", put_pets(Path("sets/pets"), unknown="?"), *QUICK, "--epochs", "1,0")
    said = " ".join(ran.stderr.split())
    for words in (
        "data pets: manifest prepared/pets, prepared now from sets/pets",
        "pets: 1 classes without an image that is known not to show them (unknown is not absent: write 0) (dog)",
        "pets: 1 names of classes that differ in spelling only (cat = Cat)",
        "classes with fewer than 10 positive training images",
        "data pets: more in prepared/pets/report.png",
    ):
        assert words in said
    assert "images without an active label" not in said  # a note
    assert Path("prepared/pets/report.png").is_file()
    ran = sadcl("train", "pets", *QUICK, "--epochs", "1,0")  # by the name it was prepared under
    assert "data pets: manifest prepared/pets" in ran.stderr
    assert "report.png" not in ran.stderr
    shutil.rmtree("prepared")
    ran = sadcl("train", "sets/pets", *QUICK, "--epochs", "1,0", "-q")
    assert "known not to show them" in ran.stderr
    assert "spelling" not in ran.stderr
    assert Path("prepared/pets/report.png").is_file()


def test_images_lie_where_they_were_said_to_when_the_data_were_prepared(sadcl: Sadcl) -> None:
    put_pets(Path("imgs"))
    Path("lab").mkdir()
    Path("imgs/labels.csv").rename("lab/x.csv")
    sadcl("prepare-data", "lab/x.csv", "--data", "imgs")
    ran = sadcl("train", "lab/x.csv", *QUICK, "--epochs", "1,0")
    assert "data x: manifest prepared/x, prepared before" in ran.stderr
    assert json.loads(Path("runs/x/run.json").read_text())["manifest"] == str(Path("prepared/x").resolve())


def test_early_stop(sadcl: Sadcl, coco: Path) -> None:
    still = ("--lr", "1e-12", "--set", "model.freeze_batchnorm=true", "--set", "optim.patience=2")
    ran = sadcl("train", "coco", "--data", coco, *QUICK, *still, "--epochs", "9,0")
    assert "stage classification ends early: no better mAP since epoch 1" in ran.stderr
    assert len(Path("runs/coco/results.csv").read_text().splitlines()) == 1 + 3


def test_divergence_names_the_term_and_keeps_the_run(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("train", "coco", "--data", coco, *QUICK, "--lr", "1e30", "--set", "optim.warmup=0", code=4)
    assert "The loss term asymmetric is not a finite number" in ran.stderr
    assert json.loads(Path("runs/coco/run.json").read_text())["status"] == "diverged"


def test_mistakes(sadcl: Sadcl, coco: Path) -> None:
    shutil.rmtree("prepared")
    Path("taken").mkdir()
    Path("text.pth").write_text("hello")
    base = ("train", "coco", "--data", coco, *QUICK)
    for arguments, code, words in [
        (("train", "coco"), 3, "data/coco does not exist. Fetch it: sadcl prepare-data coco --download"),
        (("train", "coc"), 2, "Did you mean 'coco'"),
        ((*base, "-o", "taken"), 2, "The run directory taken exists"),
        ((*base, "--preset", "smal"), 2, "Did you mean 'small'"),
        ((*base, "--method", "salr"), 2, "Did you mean 'sarl'"),
        ((*base, "--backbone", "resnet_50"), 2, "Did you mean 'resnet50'"),
        ((*base, "--epochs", "many"), 2, "--epochs 'many'"),
        ((*base, "--epochs", "0"), 2, "No stage has an epoch"),
        ((*base, "--set", "model.heads.sarl.widht=8"), 2, "Did you mean 'model.heads.sarl.width'"),
        ((*base, "--config", "none.yaml"), 2, "none.yaml cannot be read"),
        ((*base, "--pretrained", "x.pth"), 2, "exclude each other"),
        ((*base, "--lr", "0"), 2, "Give a number above 0."),
        ((*base, "--device", "cuda:7"), 5, "no device cuda:7"),
        ((*base, "--precision", "fp16"), 5, "fp16 does not work on the CPU"),
        (("train", "coco", "--data", coco, "--backbone", "test_resnet", "--pretrained", "x.pth"), 3, "no weights file x.pth"),
        (("train", "coco", "--data", coco, "--backbone", "test_resnet", "--pretrained", "text.pth"), 3, "loaded safely"),
    ]:
        ran = sadcl(*arguments, code=code)
        assert words in ran.stderr, (arguments, ran.stderr)
        assert ran.stderr.count("Error: ") == 1
        assert "Traceback" not in ran.stderr
    assert not Path("runs").exists()


def test_splits_that_make_no_sense(sadcl: Sadcl, coco: Path) -> None:
    base = ("train", "coco", "--data", coco, *QUICK)
    for assignment, words in [
        ("data.eval_split=vall", "data.eval_split=vall: coco has no such split. Did you mean 'val'"),
        ("data.train_split=tain", "Did you mean 'train'"),
        ("data.train_split=val", "both val"),
    ]:
        assert words in sadcl(*base, "--set", assignment, code=2).stderr
    path = coco / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "annotations": []}))
    assert "Split val of coco has no active label" in sadcl(*base, code=3).stderr
    assert not Path("runs").exists()


@pytest.mark.parametrize("workers", ["0", "1"])
def test_an_image_that_vanished_after_preparing(sadcl: Sadcl, coco: Path, workers: str) -> None:
    (coco / "train2017" / "005.png").unlink()
    ran = sadcl("train", "coco", *QUICK, "-j", workers, code=3)
    assert ran.stderr.rstrip().endswith("train2017/005.png: no such file.")
    assert "Traceback" not in ran.stderr
    assert json.loads(Path("runs/coco/run.json").read_text())["status"] == "failed"


def test_snake_case_is_as_good_as_kebab_case(sadcl: Sadcl, coco: Path) -> None:
    sadcl("train", "coco", "--data", coco, *QUICK, "--batch_size", "4", "--img_size", "32", "--epochs", "1,0")
    config = read_table(Path("runs/coco/config.yaml"))
    assert (config["data"]["batch_size"], config["data"]["img_size"]) == (4, 32)


def test_list_methods_and_presets_say_what_there_is(sadcl: Sadcl) -> None:
    ran = sadcl("train", "--list-methods")
    for name, method in METHODS.items():
        assert name in ran.stdout
        assert method.head in ran.stdout
    assert "P2S prototype-to-sample" in ran.stdout
    assert "1 ASL + 0.1 S2S + 0.05 P2S" in " ".join(sadcl("train", "--list-methods").stdout.split())
    assert "arXiv 2307.09715" in " ".join(ran.stdout.split())
    ran = sadcl("train", "--list-presets")
    assert all(name in ran.stdout for name in PRESETS)
    assert "arXiv 2307.09715" in " ".join(ran.stdout.split())
    assert "RNN-Att" not in ran.stdout


def test_list_sizes_says_what_is_fetched_and_under_which_licence(sadcl: Sadcl) -> None:
    ran = sadcl("train", "--list-sizes")
    words = " ".join(ran.stdout.split())
    assert "hgnetv2_b4.ssld_stage2_ft_in1k" in words
    assert "dinov3-license" in words
    assert "without a question" in words


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (("--size", "tiny"), "weights timm/hgnetv2_b0.ssld_stage2_ft_in1k from the hub, licence apache-2.0"),
        (("--backbone", "convnextv2_atto"), "licence cc-by-nc-4.0: not for commercial use"),
    ],
)
def test_the_licence_is_named_before_weights_are_fetched(
    sadcl: Sadcl, coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, str], line: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    ran = sadcl("train", "coco", "--data", coco, *flags, "--pretrained", "hub", "--device", "cpu", code=5)
    before, _, after = " ".join(ran.stderr.split()).partition("Fetch model.safetensors")
    assert line in before
    assert "million parameters" in before
    assert "--pretrained FILE" in after


def test_print_config_shows_every_value_and_its_source_and_trains_nothing(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("train", "--preset", "mulcon-r101-448", "--seed", "7", "--set", "optim.patience=3", "--print-config")
    for line in (
        "method: mulcon  # preset mulcon-r101-448",
        "seed: 7  # flag",
        "patience: 3  # --set",
        "sample_to_sample: 0.5  # method mulcon",
        "optimizer: sgd  # preset mulcon-r101-448",
        "weight_decay: 0.005  # default",
    ):
        assert line in ran.stdout
    values = parse_yaml(ran.stdout)
    assert set(flatten(values)) >= {key for key in flatten(RunConfig().model_dump()) if key != "model.heads"}
    ran = sadcl("train", "coco", "--data", coco, "--method", "baseline", "--print-config")
    assert "preset: auto" in ran.stdout
    assert "batch_size: 16  # auto: 24 images" in ran.stdout
    assert "from scratch (images of about 64 px" in " ".join(ran.stderr.split())
    assert "head: pooled  # method baseline" in ran.stdout
    assert not Path("runs").exists()
    assert "Name the data set" in sadcl("train", code=2).stderr


SMALL_MULCON = ("--set", "model.heads.mulcon.width=16", "--set", "model.heads.mulcon.token_width=16")


# one method of each head, and those whose stages have losses of their own
TRIED = (
    *("baseline-contrastive", "linear-probe", "mulcon", "query2label-self-attention", "csra", "ml-decoder", "dsdl", "add-gcn"),
    *("kggr", "c-tran", "tdrg", "adahgnn", "sst", "p-gcn", "ms-cma", "ccd", "cpcl", "rnn-att", "mcar"),
)


@pytest.mark.parametrize("method", TRIED)
def test_every_method_trains_evaluates_and_draws(sadcl: Sadcl, coco: Path, method: str) -> None:
    quick: list[str | Path] = [*QUICK, "--img-size", "32", *SMALL_MULCON, "--epochs", "1"]
    if method == "linear-probe":  # which refuses random weights
        quick[quick.index("--no-pretrained")] = f"--pretrained={weights_file()}"
        quick += ["--cache", coco.parent / "cache"]
    ran = sadcl("train", "coco", "--data", coco, *quick, "--method", method)
    assert f"method {method}: {METHODS[method].head} head" in ran.stderr
    stages = len(METHODS[method].stages)
    assert (f"stage {stages}/{stages} " if stages else "linear layer: L2 strength") in ran.stderr
    sadcl("eval", "--limit", "4")
    sadcl("visualize", "attention", next(iter((coco / "val2017").glob("*.png"))))


def test_every_head_is_tried() -> None:
    assert {METHODS[method].head for method in TRIED} == set(HEADS)


def test_images_that_the_model_before_was_trained_on_are_not_held_out(sadcl: Sadcl, trained: Path, tmp_path: Path) -> None:
    folder = make_coco(tmp_path / "other")
    seen = sorted((trained / "my-coco" / "train2017").glob("*.png"))[:3]
    for path, held_out in zip(seen, sorted((folder / "val2017").glob("*.png")), strict=False):
        shutil.copy(path, held_out)
    source = trained / "runs/coco"
    arguments = ("train", "coco", "--data", folder, "--init-from", source, "--epochs", "1,0", "--device", "cpu", "-j", "0")
    ran = sadcl(*arguments, code=3)
    assert f"3 of the 12 images of split val were trained on by {source}, such as " in ran.stderr
    assert "--allow-overlap" in ran.stderr
    sadcl("prepare-data", "coco", "--data", folder, "--resize", "16", "-o", "small")
    ran = sadcl("train", "small", *arguments[4:], code=3)  # compact copies stand for their originals
    assert f"3 of the 12 images of split val were trained on by {source}, such as " in ran.stderr
    assert not Path("runs").exists()
    sadcl(*arguments, "--allow-overlap")
    ran = sadcl("doctor", "runs/coco", "--json", "--device", "cpu")
    finding = next(entry for entry in json.loads(ran.stdout)["checks"] if entry["name"] == "images-of-init")
    assert finding["severity"] == "serious"
    assert finding["evidence"]["same_content"] == 3


def test_a_trained_run_teaches_another_one(sadcl: Sadcl, trained: Path, coco: Path) -> None:
    teacher = trained / "runs/coco"
    learn = ("--set", "stages.classification.losses.distillation=1", "--set")
    arguments = ("train", "coco", "--data", coco, *QUICK, "--epochs", "1,0", *learn)
    ran = sadcl(*arguments, f"loss.distillation.teachers=[{teacher}]")
    assert f"learns the logits of {teacher}" in ran.stderr
    assert "loss 1 ASL + 1 KD" in ran.stderr
    ran = sadcl("train", "nowhere", *learn, "loss.distillation.teachers=[runs/none]", code=3)  # before the data are looked for
    assert "There is no model file runs/none" in ran.stderr


def test_a_part_of_the_images_for_a_quick_try(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("train", "coco", "--data", coco, *QUICK, "--epochs", "1,0", "--limit", "18")
    assert json.loads(Path("runs/coco/run.json").read_text())["status"] == "finished"
    assert "12 training images" in ran.stderr or "12 images" in ran.stderr
    sadcl("train", "--resume", "runs/coco", "--epochs", "2,0")
    findings = json.loads(sadcl("doctor", "runs/coco", "--json", "--device", "cpu").stdout)["checks"]
    assert next(entry for entry in findings if entry["name"] == "data-changed")["status"] == "passed"


def test_goes_on_from_a_model_with_other_class_names(sadcl: Sadcl, trained: Path, tmp_path: Path) -> None:
    folder = make_coco(tmp_path / "other")
    for path in (folder / "annotations").glob("*.json"):
        document = json.loads(path.read_text())
        for category in document["categories"]:
            category["name"] = {"zero": "nought", "one": "ONE"}.get(category["name"], category["name"])
        path.write_text(json.dumps(document))
    source = trained / "runs/coco"
    ran = sadcl("train", "coco", "--data", folder, "--init-from", source, "--epochs", "1,0", "--device", "cpu", "-j", "0")
    assert f"goes on from {source}/weights/best.safetensors: 9 of 10 classes matched" in ran.stderr
    assert "under another name: ONE from one" in ran.stderr
    assert "start at random: nought" in ran.stderr
    config = Path("runs/coco/config.yaml").read_text()
    assert f"backbone: test_resnet  # init-from {source}" in config
    assert f"width: 16  # init-from {source}" in config
    assert json.loads(Path("runs/coco/run.json").read_text())["transfer"]["classes"]["ONE"] == "one"
    Path("map.yaml").write_text("nought: zero\n")
    ran = sadcl(
        "train", "coco", "--init-from", source, "--class-map", "map.yaml", "--epochs", "1,0", "--device", "cpu", "-j", "0"
    )
    assert "10 of 10 classes matched" in ran.stderr
    for arguments, code, words in [
        (("--class-map", "map.yaml"), 2, "Name that: --init-from"),
        (("--init-from", "nowhere"), 3, "There is no model file nowhere"),
        (("--init-from", source, "--class-map", "none.yaml"), 2, "none.yaml cannot be read"),
        (("--init-from", source, "--no-pretrained"), 2, "Leave out --pretrained and --no-pretrained"),
        (("--init-from", source, "--backbone", "resnet18"), 3, "has another backbone, test_resnet and not resnet18"),
    ]:
        assert words in sadcl("train", "coco", *arguments, "-o", "new", code=code).stderr
        assert not Path("new").exists()


def test_a_configuration_that_goes_on_from_a_model_gives_the_same_run_again(sadcl: Sadcl, trained: Path, coco: Path) -> None:
    quick = ("--epochs", "1,0", "--device", "cpu", "-j", "0", "-b", "8")
    sadcl("train", "coco", "--data", coco, "--init-from", trained / "runs/coco", *quick)
    sadcl("train", "coco", "-c", "runs/coco/config.yaml")
    first, second = (load_model(Path(run, "weights/last.safetensors")) for run in ("runs/coco", "runs/coco-2"))
    theirs = second.classifier.state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in first.classifier.state_dict().items())
    ran = sadcl("train", "coco", "-c", "runs/coco/config.yaml", "--no-pretrained", "--print-config", code=2)
    assert "Add --set model.freeze_stride=0 --set model.freeze_batchnorm=false." in ran.stderr
    free = ("--set", "model.freeze_stride=0", "--set", "model.freeze_batchnorm=false")
    ran = sadcl("train", "coco", "-c", "runs/coco/config.yaml", "--no-pretrained", *free, "--print-config")
    assert "init_from: ''  # flag" in ran.stdout
    assert "--init-from" in sadcl("train", "coco", "--set", "model.class_map=map.yaml", code=2).stderr
