from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sadcl_core.config.layers import load_config_file, resolve_config
from sadcl_core.config.schema import RunConfig
from sadcl_core.data.loader import make_loader
from sadcl_core.data.manifest import load_manifest
from sadcl_core.data.transforms import augmentation
from sadcl_core.plots.contact_sheet import Tile
from sadcl_core.runs.run_directory import RunDirectory
from sadcl_core.runtime.seeds import seed_of
from sadcl_core.training.batch_figure import batch_tiles
from sadcl_core.training.listeners.events import EpochDone, RunStarted, StageStarted
from sadcl_core.training.listeners.figures import DataFigures


@pytest.fixture(scope="module")
def config(trained: Path) -> RunConfig:
    return resolve_config([("file", load_config_file(trained / "runs" / "coco" / "config.yaml"))])[0]


@pytest.mark.parametrize(("after", "drawn"), [(0.0, True), (1e9, False)])
def test_figures_of_the_data_are_drawn_in_long_runs(config: RunConfig, tmp_path: Path, after: float, drawn: bool) -> None:
    run = RunDirectory(tmp_path)
    listener = DataFigures(run, after=after)
    before = torch.get_rng_state()
    for event in (
        RunStarted(run, config, "cpu", "fp32", 1, 24, 12),
        StageStarted("classification", 1, 2, 2, 3, {"asymmetric": 1.0}),
        EpochDone({"stage": "classification", "epoch": 1}, best=True),
        EpochDone({"stage": "classification", "epoch": 2}, best=True),
    ):
        listener(event)
    listener.close()
    names = ["batch-classification.png", "co-occurrence.png"] if drawn else []
    assert sorted(path.name for path in tmp_path.glob("plots/*")) == names
    assert torch.equal(torch.get_rng_state(), before)


def pixels(tile: Tile) -> bytes:
    assert tile.picture is not None
    return tile.picture.tobytes()


def test_the_batch_is_the_first_that_the_network_sees(config: RunConfig) -> None:
    manifest = load_manifest(Path(config.data.manifest))
    split = manifest.split("train")
    transform = augmentation(config.stages["contrastive"].augment, config.data.img_size)
    loader = make_loader(split, transform, batch_size=8, workers=0, shuffle_seed=seed_of(config.seed, 2))
    images, _, indices = next(iter(loader.epoch(1)))
    tiles, _ = batch_tiles(config, manifest, "contrastive", most=5)
    assert len(tiles) == 5
    for tile, image, index in zip(tiles, images, indices, strict=False):
        assert pixels(tile) == image.permute(1, 2, 0).numpy().tobytes()
        names = {manifest.classes[k] for k in split.active(int(index))} or {"(no label)"}
        assert len(names & set(tile.lines)) >= min(3, len(names))


def test_mixed_batches_and_kept_views(config: RunConfig, tmp_path: Path) -> None:
    manifest = load_manifest(Path(config.data.manifest))
    stage = config.stages["classification"]
    mixed = config.model_copy(update={"stages": {"classification": stage.model_copy(update={"mixup": 0.8, "views": 2})}})
    tiles, title = batch_tiles(mixed, manifest, "classification")
    assert len(tiles) == 16
    assert "2 views of each image, mixup 0.8" in title
    assert any(line.rpartition(" ")[2].startswith("0.") for tile in tiles for line in tile.lines)
    once = config.features.model_copy(update={"once": True, "views": 4, "cache": str(tmp_path)})
    stages = {"classification": stage.model_copy(update={"augment": "flip-and-crop"})}
    kept, title = batch_tiles(config.model_copy(update={"features": once, "stages": stages}), manifest, "classification")
    assert "plain, mirror, crop-1, crop-2" in title
    assert len(kept) == 24
    assert len({pixels(tile) for tile in kept[:4]}) == 4
