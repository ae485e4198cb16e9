from __future__ import annotations

from pathlib import Path

from PIL import Image

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.rows import Record
from sadcl_core.data.shards import write_shards
from sadcl_core.data.sizes import median_short_side


def make(folder: Path, sides: list[int]) -> Manifest:
    for number, side in enumerate(sides):
        Image.new("RGB", (side, side * 2)).save(folder / f"{number}.png")
    records = [Record(f"{number}.png", "train", (0,)) for number in range(len(sides))]
    return Manifest.from_records(Description("mine", folder, ("cat",)), records)


def test_the_median_of_the_shorter_sides(tmp_path: Path) -> None:
    assert median_short_side(make(tmp_path, [10, 20, 90]).split("train")) == 20


def test_a_sample_is_spread_over_the_split(tmp_path: Path) -> None:
    split = make(tmp_path, [10] * 20 + [40] * 30).split("train")
    assert median_short_side(split, sample=5) == 40
    assert median_short_side(split, sample=1) == 10


def test_unknown_where_nothing_can_be_opened(tmp_path: Path) -> None:
    manifest = make(tmp_path, [10, 20])
    (tmp_path / "0.png").write_bytes(b"no image")
    assert median_short_side(manifest.split("train")) == 20
    (tmp_path / "1.png").unlink()
    assert median_short_side(manifest.split("train")) is None


def test_shards_are_not_fetched_for_it(tmp_path: Path) -> None:
    manifest = make(tmp_path, [10, 20]).save(tmp_path / "manifest")
    folder = write_shards(manifest, tmp_path / "shards")
    from sadcl_core.data.manifest import load_manifest

    assert median_short_side(load_manifest(folder).split("train")) is None
