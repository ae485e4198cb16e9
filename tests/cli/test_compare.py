from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from sadcl_cli import console
from sadcl_cli.display.comparison import show_comparison
from sadcl_core.config.layers import Layer
from sadcl_core.config.presets import configure
from sadcl_core.data.prepare.prepare import prepare
from sadcl_core.experiments.plan import plan
from sadcl_core.experiments.tables import TITLES, Comparison, ScoredRun
from sadcl_core.training.setup import data_facts
from tests.conftest import QUICK, Sadcl

SMALL_MULCON = ("--set", "model.heads.mulcon.width=16", "--set", "model.heads.mulcon.token_width=16")


def test_methods_in_one_table_then_more_without_training_again(sadcl: Sadcl, coco: Path) -> None:
    base = ("compare", "coco", "--data", coco, *QUICK, *SMALL_MULCON, "--epochs", "1")
    ran = sadcl(*base, "--methods", "sarl,sadcl,mulcon", "--seeds", "2")
    for words in ("minus", "sadcl", "mulcon", "0/2", "standard deviation over the seeds 1, 2", "results saved to runs/"):
        assert words in ran.stdout.replace("1/2", "0/2").replace("2/2", "0/2"), ran.stdout
    assert "6/6 mulcon-seed2" in ran.stderr
    assert ran.stderr.count("the first stage, shared") == 2
    assert ran.stderr.count("images of split train") == 1  # the same of every run
    folder = Path("runs/compare-coco")
    with Image.open(folder / "comparison.png") as figure:
        assert figure.width > 100
    assert (folder / "comparison.csv").read_text().count("\n") == 7
    assert (folder / "sadcl-seed2" / "prototypes.json").is_file()
    assert len(list((folder / "mulcon-seed1" / "eval").glob("*.json"))) == 1

    assert (folder / "sadcl-seed2" / "plots" / "curves.png").is_file()

    before = {path: path.read_bytes() for path in folder.glob("*/results.csv")}
    again = sadcl(*base, "--methods", "sarl,sadcl", "--seeds", "2,", "--json", "-q")
    document = json.loads(again.stdout)
    assert document["seeds"] == [2]
    assert [entry["method"] for entry in document["methods"]] == ["sarl", "sadcl"]
    assert document["methods"][1]["difference"]["deviation"] is None
    assert again.stderr == ""
    assert {path: path.read_bytes() for path in folder.glob("*/results.csv")} == before  # seconds are in it, too


def test_a_divergence_is_a_warning_and_an_exit_code(sadcl: Sadcl, coco: Path) -> None:
    base = ("compare", "coco", "--data", coco, *QUICK, "--epochs", "1,0", "--methods", "baseline,sarl", "--seeds", "1")
    ran = sadcl(*base, "--lr", "1e30", "-o", "wild", code=4)
    assert "no numbers of baseline seed 1, sarl seed 1: training diverged. Try a lower --lr" in ran.stderr
    assert "results saved to wild" in ran.stdout
    assert Path("wild/comparison.png").is_file()


def test_a_file_of_one_method_is_refused_for_the_others_and_says_what_to_remove(sadcl: Sadcl, coco: Path) -> None:
    printed = sadcl("train", "coco", "--data", coco, *QUICK, "--epochs", "1,1", "--print-config").stdout
    Path("f.yaml").write_text(printed)
    base = ("compare", "coco", "--data", coco, "-c", "f.yaml", "--seeds", "1")
    ran = sadcl(*base, "--methods", "sadcl,baseline", code=2)
    for words in ("f.yaml is for the method sadcl", "# method sadcl", "or compare only sadcl"):
        assert words in ran.stderr
    lines = [line for line in printed.splitlines() if "# method sadcl" not in line and not line.startswith("method:")]
    Path("f.yaml").write_text("\n".join(lines) + "\n")
    sadcl(*base, "--methods", "sadcl,baseline")


def test_runs_of_a_comparison_are_runs_like_any_other(sadcl: Sadcl, coco: Path) -> None:
    sadcl("compare", "coco", "--data", coco, *QUICK, "--epochs", "1,1", "--methods", "sadcl", "--seeds", "1")
    sadcl("visualize", "curves", "-w", "runs/compare-coco/sadcl-seed1")
    config = Path("runs/compare-coco/sadcl-seed1/config.yaml").read_text()
    assert "method: sadcl  # compare" in config
    sadcl("train", "coco", "-c", "runs/compare-coco/sadcl-seed1/config.yaml")
    results = [Path(run, "results.csv").read_text().splitlines() for run in ("runs/compare-coco/sadcl-seed1", "runs/coco")]
    assert [line.split(",")[-2:] for line in results[0]] == [line.split(",")[-2:] for line in results[1]]


def test_every_method_has_the_recipe_that_training_it_alone_would_choose(
    coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = prepare("coco", data=coco).manifest
    layers: list[tuple[str, Layer]] = [("flag", {"stages": {"classification": {"epochs": 7}}})]
    facts = partial(data_facts, manifest, layers)
    planned = plan(layers, manifest, methods=("sadcl", "baseline", "mulcon"), seeds=[1])
    for run in planned.runs:
        said = [*layers, ("flag", {"method": run.method})]
        alone = configure(said, dataset="coco", split_sizes=manifest.split_sizes, facts=facts).config
        config = run.configured.config
        assert (config.data, config.model, config.optim) == (alone.data, alone.model, alone.optim)
        assert config.stages["classification"] == alone.stages["classification"]
        assert run.configured.sources["data.img_size"] == "auto: 24 images"
        assert config.stages["contrastive"].epochs == 3


def test_mistakes(sadcl: Sadcl, coco: Path) -> None:
    base = ("compare", "coco", "--data", coco, *QUICK)
    for arguments, words in [
        ((*base, "--methods", "sadcl,salr"), "Did you mean 'sarl'"),
        ((*base, "--methods", "sarl,sarl"), "every method once"),
        ((*base, "--methods", "sarl", "--ablation"), "--ablation names its methods itself"),
        ((*base, "--methods", "sadcl,,sarl"), "There is no method ''"),
        ((*base, "--seeds", "²"), "--seeds '²'"),
        ((*base, "--methods", "sarl,sadcl", "--epochs", "1,0"), "sarl and sadcl are the same with one stage"),
        ((*base, "--preset", "sadcl-r101-448-voc"), "--init-from"),
        ((*base, "--seeds", "many"), "--seeds 'many'"),
        ((*base, "--seeds", "0"), "give 1 to 100"),
        ((*base, "--seeds", "1,1"), "every seed once"),
        ((*base, "--epochs", "0"), "No stage has an epoch"),
        ((*base, "--set", "optim.emadecay=0.9"), "Did you mean 'optim.ema_decay'"),
    ]:
        ran = sadcl(*arguments, code=2)
        assert words in ran.stderr, (arguments, ran.stderr)
        assert ran.stderr.count("Error: ") == 1
    assert not Path("runs").exists()


def test_numbers_are_whole_in_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    console._console.cache_clear()
    names = ("baseline-contrastive", "mulcon-classification")
    runs = [ScoredRun(name, seed, dict.fromkeys(TITLES, 97.123 + seed), 1, 1.0) for name in names for seed in (1, 2)]
    published = {"mulcon-classification": "84.9 (448 px)"}
    show_comparison(Comparison("mine", "small", "resnet18", {"classification": 1}, tuple(runs), {}, Path("c"), published))
    text = capsys.readouterr().out
    console._console.cache_clear()
    assert text.count("98.62 ± 0.71") == 2
    assert text.count("98.62") == 6
    assert "+0.00 ± 0.00" in text
    assert "0/2" in text
    assert "published, of the whole data set: mulcon-classification 84.9 (448 px)" in " ".join(text.split())
