from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sadcl_core.data.manifest import Description, Manifest
from sadcl_core.data.prepare.checks import EXAMPLES, KINDS, ImageChecks, check_images, equal_groups
from sadcl_core.data.rows import Record
from tests.core.data.test_images import ORIENTATION, claim
from tests.core.data.tiff import write_bands, write_png


def manifest_of(root: Path, images: Sequence[str], splits: Sequence[str] = ()) -> Manifest:
    names = splits or ["train"] * len(images)
    records = (Record(image, split, (0,)) for image, split in zip(images, names, strict=True))
    return Manifest.from_records(Description("some", root, ("cat",)), records)


def draw(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (12, 10), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(path, **options)  # type: ignore[arg-type]
    return path


def groups_of(checks: ImageChecks) -> set[frozenset[int]]:
    """Which rows are in a group together."""
    numbers = [int(number) for number in checks.groups]
    return {frozenset(k for k, other in enumerate(numbers) if other == number) for number in numbers if number >= 0}


@pytest.fixture
def unlike(tmp_path: Path) -> Manifest:
    """One image of each kind, broken ones, and a plain one."""
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    draw(tmp_path / "plain.jpg", 0)
    draw(tmp_path / "grey.png", 1, "L")
    draw(tmp_path / "bits.png", 2, "1")
    draw(tmp_path / "palette.png", 3, "P")
    draw(tmp_path / "cmyk.jpg", 4, "CMYK")
    draw(tmp_path / "alpha.png", 5, "RGBA")
    draw(tmp_path / "grey-alpha.png", 6, "LA")
    draw(tmp_path / "lab.tif", 7, "LAB")
    draw(tmp_path / "rotated.jpg", 8, exif=exif)
    draw(tmp_path / "tiny.png", 9, size=(300, 7))
    draw(tmp_path / "small-enough.png", 10, size=(8, 8))
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100).save(tmp_path / "deep.png")
    Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 10).save(tmp_path / "dim.png")
    write_png(tmp_path / "dim-colours.png", np.arange(1200, dtype=np.uint16).reshape(20, 20, 3) * 3)
    write_bands(tmp_path / "bands.tif", np.arange(1600, dtype=np.uint16).reshape(20, 20, 4) * 40)
    Image.fromarray(np.arange(400, dtype=np.float32).reshape(20, 20)).save(tmp_path / "float.tif")
    frames[0].save(tmp_path / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("this is no image")
    (tmp_path / "folder.jpg").mkdir()
    claim(tmp_path / "bomb.png", 30_000, 30_000)
    draw(tmp_path / "truncated.jpg", 11)
    os.truncate(tmp_path / "truncated.jpg", 400)
    names = sorted(path.name for path in tmp_path.iterdir())
    return manifest_of(tmp_path, [*names, "missing.jpg"])


def test_every_kind_is_counted_with_examples(unlike: Manifest) -> None:
    checks = check_images(unlike)
    assert checks.examples == {
        "grey": ["bits.png", "grey.png"],
        "palette": ["palette.png"],
        "CMYK": ["cmyk.jpg"],
        "16-bit": ["bands.tif", "deep.png", "dim-colours.png", "dim.png", "float.tif"],
        "more bands": ["bands.tif"],
        "stretched": ["dim-colours.png", "dim.png"],
        "alpha": ["alpha.png", "grey-alpha.png"],
        "other mode": ["lab.tif"],
        "rotated": ["rotated.jpg"],
        "animated": ["animated.webp"],
        "tiny": ["tiny.png"],
    }
    assert checks.kinds == {kind: len(names) for kind, names in checks.examples.items()}
    assert set(checks.kinds) == set(KINDS)
    assert checks.decoded


def test_every_broken_image_is_named_with_its_reason(unlike: Manifest) -> None:
    reasons = {problem.image: problem.reason for problem in check_images(unlike).problems}
    root = unlike.description.root
    assert all(reason.startswith(f"{root / image}: ") for image, reason in reasons.items())
    for image, words in {
        "bomb.png": "more pixels than a photograph has",
        "empty.jpg": "an empty file.",
        "folder.jpg": "a folder, not an image.",
        "missing.jpg": "no such file.",
        "text.jpg": "not an image.",
        "truncated.jpg": "broken image",
    }.items():
        assert words in reasons.pop(image)
    assert not reasons


def test_without_decoding_only_what_is_not_there_is_broken(unlike: Manifest) -> None:
    checks = check_images(unlike, decode=False)
    assert [problem.image for problem in checks.problems] == ["empty.jpg", "folder.jpg", "missing.jpg"]
    assert not checks.kinds
    assert not checks.decoded
    assert (checks.groups == -1).all()


def test_a_few_examples_of_a_kind_and_all_in_the_count(tmp_path: Path) -> None:
    names = [draw(tmp_path / f"{k}.png", k, "L").name for k in range(EXAMPLES + 3)]
    checks = check_images(manifest_of(tmp_path, names))
    assert checks.kinds == {"grey": EXAMPLES + 3}
    assert checks.examples["grey"] == names[:EXAMPLES]


@pytest.mark.parametrize("decode", [True, False])
def test_images_of_the_same_content_have_the_same_number(tmp_path: Path, decode: bool) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 1), ("d", 3), ("e", 2), ("f", 1)):
        draw(tmp_path / f"{name}.bmp", seed)  # all of the same length
    assert len({path.stat().st_size for path in tmp_path.iterdir()}) == 1
    checks = check_images(manifest_of(tmp_path, [f"{name}.bmp" for name in "abcdef"]), decode=decode)
    assert groups_of(checks) == {frozenset({0, 2, 5}), frozenset({1, 4})}
    assert checks.groups[3] == -1
    assert checks.groups.dtype == np.int64


@pytest.mark.parametrize("decode", [True, False])
def test_broken_images_are_no_duplicates_of_one_another(tmp_path: Path, decode: bool) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    draw(tmp_path / "c.jpg", 1)
    checks = check_images(manifest_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg"]), decode=decode)
    assert (checks.groups == -1).all()
    assert len(checks.problems) == 4


@pytest.mark.parametrize("decode", [True, False])
def test_an_image_in_two_splits_is_its_own_duplicate(tmp_path: Path, decode: bool) -> None:
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "b.png", 2)
    checks = check_images(manifest_of(tmp_path, ["a.png", "a.png", "b.png"], ["train", "test", "train"]), decode=decode)
    assert groups_of(checks) == {frozenset({0, 1})}


@pytest.mark.parametrize("decode", [True, False])
def test_links_are_followed(tmp_path: Path, decode: bool) -> None:
    draw(tmp_path / "elsewhere" / "a.png", 1)
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (root / "b.png").symlink_to(tmp_path / "elsewhere" / "gone.png")
    (root / "c.png").symlink_to(root / "c.png")
    shutil.copy(tmp_path / "elsewhere" / "a.png", root / "d.png")
    checks = check_images(manifest_of(root, ["a.png", "b.png", "c.png", "d.png"]), decode=decode)
    assert [problem.image for problem in checks.problems] == ["b.png", "c.png"]
    assert groups_of(checks) == {frozenset({0, 3})}


@pytest.mark.parametrize("decode", [True, False])
def test_the_order_of_the_images_does_not_matter(tmp_path: Path, decode: bool) -> None:
    names = [draw(tmp_path / f"{k:02d}.bmp", k % 7, "L" if k % 7 == 3 else "RGB").name for k in range(20)]
    (tmp_path / "broken.bmp").write_text("")
    names.append("broken.bmp")
    order = np.random.default_rng(0).permutation(len(names))
    one = check_images(manifest_of(tmp_path, names), decode=decode)
    other = check_images(manifest_of(tmp_path, [names[k] for k in order]), decode=decode)
    named = {frozenset(names[k] for k in same) for same in groups_of(one)}
    assert {frozenset(names[order[k]] for k in same) for same in groups_of(other)} == named
    assert len(named) == 6 + 1  # every content occurs more than once
    assert one.kinds == other.kinds
    assert set(one.problems) == set(other.problems)


def test_a_hash_may_be_of_zeros() -> None:
    digests = [b"\0" * 16, b"", b"\0" * 16, b"a".ljust(16, b"\0"), b"\0" * 15 + b"a", b"a".ljust(16, b"\0")]
    groups = equal_groups(digests)
    assert groups[0] == groups[2] >= 0
    assert groups[3] == groups[5] >= 0
    assert groups[0] != groups[3]
    assert groups[1] == groups[4] == -1
    assert equal_groups([]).shape == (0,)


@pytest.mark.parametrize("decode", [True, False])
def test_progress_counts_up_to_all(tmp_path: Path, decode: bool) -> None:
    draw(tmp_path / "a.png", 0)
    count = 70
    names = ["a.png"] * count
    seen: list[tuple[int, int]] = []
    manifest = manifest_of(tmp_path, names, [f"split {k}" for k in range(count)])
    check_images(manifest, decode=decode, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (count, count)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {total for _, total in seen} == {count}


def test_more_images_than_are_handed_out_at_a_time_stay_in_order(tmp_path: Path) -> None:
    count = 552
    names = [f"{k}.png" for k in range(count)]
    for name in names[::256]:
        draw(tmp_path / name, 1)
    checks = check_images(manifest_of(tmp_path, names), decode=False)
    there = set(range(0, count, 256))
    assert groups_of(checks) == {frozenset(there)}
    assert [problem.image for problem in checks.problems] == [name for k, name in enumerate(names) if k not in there]


def test_a_file_that_may_not_be_read_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path / "a.png", 1)
    draw(tmp_path / "b.png", 1)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    manifest = manifest_of(tmp_path, ["a.png", "b.png"])
    for decode in (True, False):
        problems = check_images(manifest, decode=decode).problems
        assert len(problems) == 2
        for problem in problems:
            assert problem.reason == f"{tmp_path / problem.image}: cannot be read (Permission denied)."
