from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import Sadcl

IMAGE = "my-coco/val2017/001.png"


def test_embed_writes_two_tables(in_trained: Sadcl, tmp_path: Path) -> None:
    assert "12 rows saved to" in in_trained("embed", "-o", tmp_path).stdout
    assert pq.read_table(tmp_path / "image_features.parquet").num_rows == 12
    assert {"image", "label", "score", "feature", "embedding"} <= set(pq.read_schema(tmp_path / "label_features.parquet").names)
    document = json.loads(in_trained("embed", "-o", tmp_path, "--json", "--limit", "4", "--every-label").stdout)
    assert sorted(document["files"].values()) == [4, 40]


def test_embed_files_without_labels(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    ran = in_trained("embed", "my-coco/val2017", tmp_path / "broken.jpg", "-o", tmp_path / "out", "--json", code=3)
    assert "1 of 13 images could not be read" in ran.stderr
    assert json.loads(ran.stdout)["files"][str(tmp_path / "out/image_features.parquet")] == 12
    in_trained("embed", "my-coco/val2017", "--split", "val", code=2)
    in_trained("embed", "--every-label", "--predicted", code=2)


@pytest.mark.parametrize(
    "arguments",
    [
        ("prototypes",),
        ("embeddings",),
        ("curves",),
        ("attention", IMAGE),
        ("attention", IMAGE, "--labels", "nine,two"),
        ("attention", IMAGE, "-l", "two"),
        ("co-occurrence",),
        ("thresholds", "-j", "0"),
        ("predictions", "-n", "3"),
    ],
)
def test_every_figure(in_trained: Sadcl, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "figure.png"
    ran = in_trained("visualize", *arguments, "-o", path)
    assert ran.stdout == f"figure saved to {path}\n"
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_figures_go_into_the_run(in_trained: Sadcl, trained: Path) -> None:
    ran = in_trained("visualize", "curves", "-w", "runs/coco")
    assert ran.stdout == "figure saved to runs/coco/plots/curves.png\n"
    assert (trained / "runs/coco/plots/curves.png").is_file()


def test_a_folder_for_the_figure_is_as_good_as_a_file(in_trained: Sadcl, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new"):
        assert in_trained("visualize", "curves", "-o", folder).stdout == f"figure saved to {folder}/curves.png\n"


def test_mistakes(in_trained: Sadcl, tmp_path: Path) -> None:
    for arguments, code, words in [
        (("visualize", "prototype"), 2, "prototypes"),
        (("visualize", "attention"), 2, "Missing argument"),
        (("visualize", "attention", tmp_path / "none.jpg"), 3, "none.jpg does not exist"),
        (("visualize", "attention", IMAGE, "--labels", "tenn"), 2, "no class 'tenn'"),
        (("visualize", "curves", "-o", tmp_path / "a.jpg"), 2, "png, svg, pdf"),
        (("visualize", "attention", "my-coco/val2017", "-o", tmp_path / "a.png"), 2, "Name a folder"),
        (("visualize", "curves", "-w", tmp_path), 3, "no results.csv"),
        (("embed", "-w", tmp_path), 3, "has no weights"),
    ]:
        ran = in_trained(*arguments, code=code)
        assert words in ran.stderr
        assert ran.stdout == ""


def test_numbers_of_figures(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("visualize", "prototypes", "-o", tmp_path, "--json")
    nearest = json.loads(ran.stdout)["nearest"]
    assert len(nearest) == 10
    for name, others in nearest.items():
        assert name not in others
        assert list(others.values()) == sorted(others.values(), reverse=True)
    ran = in_trained(
        "visualize", "embeddings", "--against", "runs/coco/weights/last.safetensors", "-o", tmp_path / "e.svg", "--json"
    )
    separations = json.loads(ran.stdout)["separation"]
    assert [set(values) for values in separations.values()] == [{"before", "after"}] * 2
    assert all(-1 <= one["silhouette"] <= 1 for values in separations.values() for one in values.values())
    assert (tmp_path / "e.svg").is_file()


def test_attention_of_a_folder(in_trained: Sadcl, tmp_path: Path) -> None:
    in_trained("visualize", "attention", "my-coco/val2017", "--limit", "3", "--threshold", "0.9", "-o", tmp_path)
    assert sorted(path.name[:21] for path in tmp_path.iterdir()) == [f"attention-val2017-00{k}" for k in range(3)]


def test_attention_of_images_of_the_same_name(in_trained: Sadcl, tmp_path: Path) -> None:
    for name in ("a/x/1.png", "b/x/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(Path(IMAGE).read_bytes())
        in_trained("visualize", "attention", tmp_path / name, "-o", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_broken_image_is_named_though_quiet(in_trained: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    ran = in_trained("visualize", "attention", IMAGE, tmp_path / "broken.jpg", "-q", "-o", tmp_path / "out", code=3)
    assert "broken.jpg" in ran.stderr
    assert "1 of 2 images could not be read" in ran.stderr


def test_batches_of_each_stage(in_trained: Sadcl, tmp_path: Path) -> None:
    in_trained("visualize", "batches", "-o", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch-classification.png", "batch-contrastive.png"]
    ran = in_trained("visualize", "batches", "--stage", "contrast", "-o", tmp_path, code=2)
    assert "Did you mean 'contrastive'" in ran.stderr


def test_the_best_thresholds(in_trained: Sadcl, tmp_path: Path) -> None:
    ran = in_trained("visualize", "thresholds", "-j", "0", "-o", tmp_path / "t.png", "--json")
    best = json.loads(ran.stdout)["best"]
    assert set(best) == {"OF1", "CF1", "macro_F1"}
    assert all(0 < one["value"] <= 1 and 0 < one["threshold"] < 1 for one in best.values())
