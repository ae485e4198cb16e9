from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sadcl_core.data.dataset import ShardDataset
from sadcl_core.data.loader import ShardLoader, make_loader
from sadcl_core.data.manifest import Description, Manifest, load_manifest
from sadcl_core.data.prepare.prepare import find_or_prepare, prepare
from sadcl_core.data.rows import Record
from sadcl_core.data.shards import Shard, is_address, open_shards, read_samples, write_shards
from sadcl_core.data.transforms import Preprocessing
from sadcl_core.errors import DataError, MachineError, UsageError

RESIZE = Preprocessing(img_size=32, mean=(0, 0, 0), std=(1, 1, 1)).resize


@pytest.fixture
def manifest(coco: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.chdir(tmp_path)
    return prepare("coco", data=coco).manifest


@pytest.fixture
def shards(manifest: Manifest, tmp_path: Path) -> Path:
    return write_shards(manifest, tmp_path / "shards")


def edit(folder: Path, **changes: object) -> None:
    path = folder / "dataset.json"
    document = json.loads(path.read_text())
    document["shards"].update(changes)
    path.write_text(json.dumps(document))


def in_order(manifest: Manifest, split: str, *, workers: int = 0, limit: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    batches = list(make_loader(manifest.split(split), RESIZE, batch_size=7, workers=workers, limit=limit))
    images, targets, indices = (torch.cat(parts) for parts in zip(*batches, strict=True))
    order = indices.argsort()
    assert indices[order].tolist() == list(range(len(indices)))
    return images[order], targets[order]


def test_a_shard_holds_the_files_as_they_are(manifest: Manifest, shards: Path) -> None:
    split = manifest.split("train")
    with tarfile.open(shards / "train-000000.tar") as tar:
        names = tar.getnames()
        first = tar.extractfile("000000001.png")
        about = tar.extractfile("000000001.json")
        assert first is not None
        assert about is not None
        assert first.read() == split.path(1).read_bytes()
        labels = json.load(about)
    assert names[:4] == ["000000000.json", "000000000.png", "000000001.json", "000000001.png"]
    assert labels == {"image": split[1], "labels": [manifest.classes[k] for k in split.active(1)], "unknown": []}


def test_the_folder_stands_alone(manifest: Manifest, shards: Path, coco: Path) -> None:
    expected = [in_order(manifest, split) for split in manifest.splits]
    shutil.rmtree(coco)
    moved = shards.rename(shards.with_name("moved"))
    opened = find_or_prepare(str(moved)).manifest
    assert opened.rows.equals(manifest.rows)
    for split, (images, targets) in zip(manifest.splits, expected, strict=True):
        read = in_order(opened, split)
        assert torch.equal(read[0], images)
        assert torch.equal(read[1], targets)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_shards_out(manifest: Manifest, shards: Path, workers: int) -> None:
    alone, helped = in_order(load_manifest(shards), "train"), in_order(load_manifest(shards), "train", workers=workers)
    assert torch.equal(alone[0], helped[0])
    assert torch.equal(alone[1], helped[1])


@pytest.mark.parametrize(("limit", "views"), [(5, 1), (24, 2)])
def test_limit_and_views(shards: Path, limit: int, views: int) -> None:
    split = load_manifest(shards).split("train")
    loader = make_loader(split, RESIZE, batch_size=4, workers=0, limit=limit, views=views)
    batches = list(loader)
    assert len(loader) == len(batches)
    assert sorted(torch.cat([indices for *_, indices in batches]).tolist()) == list(range(limit))
    assert batches[0][0].shape == ((4, 3, 32, 32) if views == 1 else (4, 2, 3, 32, 32))


@pytest.mark.parametrize("size", [1, 3, 8, 16, 20, 24, 100])
def test_batches_of_every_size_hold_every_image(shards: Path, size: int) -> None:
    loader = ShardLoader(ShardDataset(load_manifest(shards).split("train"), RESIZE, piece=4), size=size, workers=0)
    counts = [len(indices) for *_, indices in loader]
    assert counts == [size] * (24 // size) + ([24 % size] if 24 % size else [])
    assert len(loader) == len(counts)


def test_all_splits_at_once(manifest: Manifest, shards: Path) -> None:
    images, targets = in_order(load_manifest(shards), "all")
    assert len(images) == len(manifest)
    assert targets[0].tolist() == manifest.split("train").targets(0).tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_every_pass_is_shuffled_in_its_own_way_and_by_seed(shards: Path, workers: int) -> None:
    split = load_manifest(shards).split("train")

    def passes(seed: int) -> list[list[int]]:
        loader = make_loader(split, RESIZE, batch_size=6, workers=workers, shuffle_seed=seed)
        return [torch.cat([indices for *_, indices in loader]).tolist() for _ in range(2)]

    first, second = passes(0)
    assert sorted(first) == sorted(second) == list(range(24))
    assert len({tuple(order) for order in (first, second, passes(1)[0], list(range(24)))}) == 4
    assert passes(0) == [first, second]


def test_a_last_batch_of_one_is_left_out_of_training(shards: Path) -> None:
    split = load_manifest(shards).split("train")
    loader = make_loader(split, RESIZE, batch_size=23, workers=0, shuffle_seed=0)
    assert isinstance(loader, ShardLoader)
    assert [len(indices) for *_, indices in loader] == [23]
    assert len(loader) == 1


def test_processes_read_shards_of_their_own(shards: Path) -> None:
    seen: Counter[int] = Counter()
    for rank in range(3):
        loader = make_loader(load_manifest(shards).split("train"), RESIZE, batch_size=5, workers=0, process=(rank, 3))
        seen.update(int(i) for *_, indices in loader for i in indices)
    assert seen == Counter(range(24))


def test_from_an_address(shards: Path, manifest: Manifest, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "prepared")
    opened = find_or_prepare(f"pipe:cat {shards}/").manifest
    assert "pipe:cat" in opened.description.location
    assert torch.equal(in_order(opened, "val", workers=1)[0], in_order(manifest_again(manifest), "val")[0])
    assert find_or_prepare(f"pipe:cat {shards}/").manifest.description == opened.description
    stored = load_manifest(tmp_path / "prepared" / "coco")
    assert stored.description.shards is not None
    assert "pipe" not in stored.description.shards.base  # a command is never taken from a file
    with pytest.raises(DataError, match=r"The shard train-000000\.tar is not in .*Give the address of the shards"):
        find_or_prepare("prepared/coco")
    shutil.rmtree(tmp_path / "prepared")
    prepare("coco", data=tmp_path / "my-coco")
    with pytest.raises(UsageError, match="prepared/coco is the manifest of other data"):
        open_shards(f"pipe:cat {shards}/", Path("prepared"))


def manifest_again(manifest: Manifest) -> Manifest:
    return Manifest(manifest.description, manifest.rows)


@pytest.mark.parametrize(
    ("text", "address"),
    [("https://host/a", True), ("pipe:cat a", True), ("s3://b/c", True), ("data/coco", False), ("C:x", False)],
)
def test_what_is_an_address(text: str, address: bool) -> None:
    assert is_address(text) == address


@pytest.mark.parametrize("address", ["pipe:false nothing/", "pipe:cat nowhere/", "unheard://of/"])
def test_an_address_that_cannot_be_opened(address: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"dataset\.json"):
        open_shards(address, tmp_path)


def test_an_address_of_something_else(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no shards"):
        open_shards(f"pipe:cat {tmp_path}/prepared/coco/", tmp_path / "elsewhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "dataset.json").write_text("<html>")
    with pytest.raises(DataError, match="cannot be read"):
        open_shards(f"pipe:cat {tmp_path}/other/", tmp_path / "elsewhere")


@pytest.mark.parametrize("name", ["pipe:touch owned.tar", "../train-000000.tar", "http://elsewhere/a.tar", "/etc/a.tar"])
def test_a_description_cannot_lead_elsewhere(shards: Path, name: str) -> None:
    files = json.loads((shards / "dataset.json").read_text())["shards"]["files"]
    files["train"][0][0] = name
    edit(shards, files=files)
    with pytest.raises(DataError, match="do not fit its shards"):
        load_manifest(shards)
    assert not Path("owned.tar").exists()


def test_a_description_cannot_say_what_is_to_be_run(shards: Path, tmp_path: Path) -> None:
    edit(shards, base="pipe:touch PWNED; cat shards/")
    for place in (str(shards), f"pipe:cat {shards}/"):
        with pytest.raises(DataError, match=r"dataset\.json says that its shards are at .*, which is no web address"):
            find_or_prepare(place)
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize(
    ("name", "place"), [("..", "data"), ("a/b", "a-b"), ("../../x", "x"), ("/etc", "etc"), (".hidden", "hidden")]
)
def test_a_name_cannot_lead_out_of_the_folder_of_prepared_data(shards: Path, tmp_path: Path, name: str, place: str) -> None:
    path = shards / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": name}))
    shutil.rmtree(tmp_path / "prepared")
    before = {entry: entry.stat().st_mtime_ns for entry in tmp_path.rglob("*")}
    find_or_prepare(f"pipe:cat {shards}/")
    new = {entry for entry in tmp_path.rglob("*") if entry not in before}
    home = tmp_path / "prepared"
    assert new == {home, home / place, home / place / "dataset.json", home / place / "manifest.arrow"}
    assert all(entry.stat().st_mtime_ns == changed for entry, changed in before.items())


def test_a_description_with_other_numbers(shards: Path) -> None:
    edit(shards, files={"train": [["train-000000.tar", 2]], "val": []})
    with pytest.raises(DataError, match="do not fit its shards"):
        load_manifest(shards)


def rewrite(path: Path, keep: int, name: str = "") -> None:
    """A shard with the first files alone, the first of them under another name."""
    with tarfile.open(path) as tar:
        files = [(member, tar.extractfile(member)) for member in tar.getmembers()]
        contents = [(member, file.read()) for member, file in files if file is not None][:keep]
    with tarfile.open(path, "w") as tar:
        for number, (member, content) in enumerate(contents):
            if number == 0 and name:
                member.name = name
            tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"train-000001\.tar cannot be read as a shard"),
        (lambda path: path.write_bytes(b"no tar at all" * 100), r"train-000001\.tar"),
        (lambda path: path.write_bytes(path.read_bytes()[:700]), r"train-000001\.tar"),
        (lambda path: rewrite(path, 2), r"holds 1 images and should hold 2"),
        (lambda path: rewrite(path, 4, "a.png"), r"sample 'a' is not image 2 of this manifest"),
        (lambda path: rewrite(path, 4, "999999999.png"), r"sample '999999999' is not image 2 of this manifest"),
        (lambda path: rewrite(path, 4, "d/000000002.png"), r"sample 'd/000000002' is not image 2 of this manifest"),
        (
            lambda path: shutil.copy(path.with_name("train-000000.tar"), path),
            r"sample '000000000' is not image 2 of this manifest. Write the shards again",
        ),
    ],
)
def test_damaged_shards(shards: Path, damage: object, message: str) -> None:
    damage(shards / "train-000001.tar")  # type: ignore[operator]
    opened = load_manifest(shards)
    with pytest.raises(DataError, match=message):
        list(make_loader(opened.split("train"), RESIZE, batch_size=4, workers=0))


def test_damage_in_a_worker_is_one_sentence(shards: Path) -> None:
    (shards / "train-000001.tar").unlink()
    with pytest.raises(DataError) as caught:
        list(make_loader(load_manifest(shards).split("train"), RESIZE, batch_size=4, workers=2))
    assert "\n" not in str(caught.value)


def test_damaged_rows_at_an_address_are_fetched_again_once_they_are_mended(shards: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "prepared")
    whole = (shards / "manifest.arrow").read_bytes()
    (shards / "manifest.arrow").write_bytes(whole[: len(whole) // 2])
    for _ in range(2):
        with pytest.raises(MachineError, match=r"manifest\.arrow arrived damaged .* Give the same command again"):
            find_or_prepare(f"pipe:cat {shards}/")
    (shards / "manifest.arrow").write_bytes(whole)
    assert len(find_or_prepare(f"pipe:cat {shards}/").manifest) == 36


def test_shards_that_were_written_again_are_fetched_again(manifest: Manifest, shards: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "prepared")
    first = find_or_prepare(f"pipe:cat {shards}/").manifest
    shutil.rmtree(shards)
    write_shards(manifest_again(manifest), shards)
    assert find_or_prepare(f"pipe:cat {shards}/").manifest.description.stamp != first.description.stamp


def small(root: Path, names: dict[str, str]) -> Manifest:
    """Images by name, each in a split."""
    root.mkdir()
    for seed, name in enumerate(names):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name, format="png")
    records = [Record(name, split, (0,)) for name, split in names.items()]
    return Manifest.from_records(Description("small", root, ("cat",)), records)


def test_splits_whose_names_are_spelled_alike_do_not_overwrite_each_other(tmp_path: Path) -> None:
    splits = ("fold 1", "fold-1", "fold/1", "!?", "images")
    manifest = small(tmp_path / "photos", {f"{split.encode().hex()}{k}.png": split for split in splits for k in range(3)})
    opened = load_manifest(write_shards(manifest, tmp_path / "shards"))
    assert opened.description.shards is not None
    names = [name for files in opened.description.shards.files.values() for name, _ in files]
    assert len(set(names)) == len(names) == len(list((tmp_path / "shards").glob("*.tar")))
    for split in splits:
        assert torch.equal(in_order(opened, split)[0], in_order(manifest, split)[0])


@pytest.mark.parametrize("name", ["a.jfif", "a.JPG", "a.unheard_of", "without"])
def test_the_ending_of_a_file_does_not_matter(tmp_path: Path, name: str) -> None:
    manifest = small(tmp_path / "photos", {name: "train", "b.png": "train"})
    opened = load_manifest(write_shards(manifest, tmp_path / "shards"))
    assert torch.equal(in_order(opened, "train")[0], in_order(manifest, "train")[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_without_the_library_is_one_sentence(shards: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    split = load_manifest(shards).split("train")
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MachineError, match=r"pip install 'sadcl\[webdataset\]'") as caught:
        list(make_loader(split, RESIZE, batch_size=4, workers=workers))
    assert "\n" not in str(caught.value)


def test_nothing_is_overwritten_and_nothing_half_written(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        write_shards(manifest, tmp_path / "mine")
    manifest.split("val").path(3).unlink()
    with pytest.raises(DataError, match=r"val2017/003\.png"):
        write_shards(manifest, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "my-coco", "prepared"]


def test_without_the_library(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(MachineError, match=r"pip install 'sadcl\[webdataset\]'"):
        write_shards(manifest, Path("shards"))


def test_large_splits_are_cut_into_shards_of_bounded_size(manifest: Manifest, tmp_path: Path) -> None:
    folder = write_shards(manifest, tmp_path / "small", most=1)
    opened = load_manifest(folder)
    assert opened.description.shards is not None
    assert len(opened.description.shards.files["train"]) == 24
    assert [row for row, _, _ in read_samples(opened, [Shard("train-000003.tar", 3, 1)])] == [3]
