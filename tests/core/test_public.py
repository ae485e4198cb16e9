"""The public functions, as a user of Python calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

import sadcl_core as sadcl


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_may_be_texts(kind: type[str] | type[Path], trained: Path, tmp_path: Path) -> None:
    run = kind(trained / "runs" / "coco")
    prepared = sadcl.prepare(
        "coco", data=kind(trained / "my-coco"), output=kind(tmp_path / "p"), shards=kind(tmp_path / "shards")
    )
    assert prepared.manifest.split_sizes == {"train": 24, "val": 12}
    scored = sadcl.evaluate(
        run, data=kind(tmp_path / "p"), output=kind(tmp_path / "e"), save_scores=kind(tmp_path / "s.csv"), bootstrap=0, workers=0
    )
    stored = sadcl.evaluate(
        kind(tmp_path / "s.csv"), labels=kind(tmp_path / "p"), split="val", output=kind(tmp_path / "e"), bootstrap=0
    )
    assert stored.numbers["mAP_interpolated"] == pytest.approx(scored.numbers["mAP_interpolated"])
    assert sadcl.compare_models(run, kind(tmp_path / "s.csv"), bootstrap=100, workers=0).map_interpolated.value == pytest.approx(
        0
    )
    assert len(sadcl.load(run).predict(kind(trained / "my-coco" / "val2017" / "001.png"), topk=2).labels) == 2
