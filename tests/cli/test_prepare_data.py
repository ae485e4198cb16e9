from __future__ import annotations

import json
from pathlib import Path

from tests.conftest import Sadcl, make_voc, voc_object


def test_report_and_manifest(sadcl: Sadcl, coco: Path) -> None:
    ran = sadcl("prepare-data", "coco", "--data", coco)
    assert ran.exit_code == 0
    assert "manifest saved to prepared/coco" in ran.stdout
    for words in ("split", "images per class", "zero", "10 of 10"):
        assert words in ran.stdout
    assert "checking images: 36" in ran.stderr
    assert Path("prepared/coco/dataset.json").is_file()


def test_one_json_document(sadcl: Sadcl, coco: Path) -> None:
    document = json.loads(sadcl("prepare-data", "coco", "--data", coco, "--json").stdout)
    assert document["images"] == 36
    assert document["splits"]["train"]["images"] == 24
    assert len(document["splits"]["val"]["class_counts"]) == len(document["classes"]) == 10


def test_unknown_labels_have_their_column(sadcl: Sadcl, tmp_path: Path) -> None:
    splits = {"trainval": {"000001": [voc_object("dog", difficult=1)]}, "test": {"000002": [voc_object("dog")]}}
    ran = sadcl("prepare-data", "voc2007", "--data", make_voc(tmp_path / "voc", splits))
    assert "train unknown" in ran.stdout


def test_a_truncated_image_is_an_error_unless_skipped(sadcl: Sadcl, coco: Path) -> None:
    path = coco / "train2017" / "003.png"
    path.write_bytes(path.read_bytes()[:60])
    ran = sadcl("prepare-data", "coco", "--data", coco)
    assert ran.exit_code == 3
    assert ran.stdout == ""
    assert "1 of 36 images cannot be read" in ran.stderr
    assert "003.png" in ran.stderr
    ran = sadcl("prepare-data", "coco", "--data", coco, "--skip-broken")
    assert ran.exit_code == 0
    assert "left out" in ran.stderr


def test_mistakes(sadcl: Sadcl, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, code, words in [
        (("prepare-data", "coco", "--data", "nowhere"), 3, "There is no folder nowhere"),
        (("prepare-data", "coco", "--data", "empty"), 3, "not in COCO's layout"),
        (("prepare-data", "voc2007", "--data", "empty"), 3, "not in VOC's layout"),
        (("prepare-data", "coc"), 2, "Did you mean 'coco'"),
        (("prepare-data",), 2, "Missing argument"),
    ]:
        ran = sadcl(*arguments)
        assert ran.exit_code == code, arguments
        assert words in ran.stderr
        assert ran.stdout == ""


def test_an_unknown_class_in_a_file(sadcl: Sadcl, tmp_path: Path) -> None:
    splits: dict[str, dict[str, list[str]]] = {"trainval": {"000001": [voc_object("unicorn")]}, "test": {"000002": []}}
    ran = sadcl("prepare-data", "voc2007", "--data", make_voc(tmp_path / "voc", splits))
    assert ran.exit_code == 3
    assert "000001.xml: 'unicorn' is not one of the 20 classes" in ran.stderr
