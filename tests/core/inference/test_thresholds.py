from __future__ import annotations

import json
from pathlib import Path

import pytest

from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.thresholds import choose, read_thresholds, write_thresholds

CLASSES = ("cat", "dog", "a=b", "salt, pepper")
OWN = (0.1, 0.2, 0.3, 0.4)


@pytest.mark.parametrize(
    ("threshold", "own", "values", "name"),
    [
        ([], (), (0.5,) * 4, ""),
        ([], OWN, OWN, "auto"),
        (["auto"], OWN, OWN, "auto"),
        (["0.3"], OWN, (0.3,) * 4, "above-0.3"),
        (["0.5"], OWN, (0.5,) * 4, ""),
        (["cat=0.9"], (), (0.9, 0.5, 0.5, 0.5), "cat-0.9"),
        (["cat=0.9"], OWN, (0.9, 0.2, 0.3, 0.4), "auto-cat-0.9"),
        (["cat=0.9,dog=0.8"], (), (0.9, 0.8, 0.5, 0.5), "cat-0.9-dog-0.8"),
        (["0.7", "cat=0.9", "dog=0"], OWN, (0.9, 0.0, 0.7, 0.7), "above-0.7-cat-0.9-dog-0"),
        (["a=b=0.6"], (), (0.5, 0.5, 0.6, 0.5), "a-b-0.6"),
        (["salt, pepper=1"], (), (0.5, 0.5, 0.5, 1.0), "salt-pepper-1"),
        (["cat=0.9", "cat=0.8"], (), (0.8, 0.5, 0.5, 0.5), "cat-0.8"),
    ],
)
def test_what_people_write(threshold: list[str], own: tuple[float, ...], values: tuple[float, ...], name: str) -> None:
    chosen = choose(threshold, CLASSES, own)
    assert chosen.values == values
    assert chosen.name == name


def test_descriptions() -> None:
    assert choose([], CLASSES).description == "0.5"
    assert choose([], CLASSES, OWN).description == "the model's own thresholds, 0.10 to 0.40"
    assert choose(["cat=0.9"], CLASSES).description == "cat 0.9, others above 0.5"


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (["auto"], "no thresholds of its own, or --uncalibrated leaves them out"),
        (["1.5"], "between 0 and 1"),
        (["nan"], "between 0 and 1"),
        (["-0.1"], "between 0 and 1"),
        (["cat=2"], "between 0 and 1"),
        (["cat="], "is not a number"),
        (["catt=0.3"], "no class 'catt'. Did you mean 'cat'"),
        (["cat=0.3,dog"], "'dog' is not CLASS=NUMBER"),
        (["0.3", "0.4"], "both for all classes"),
        (["missing.json"], "neither a number nor a file"),
        ([""], "neither a number nor a file"),
    ],
)
def test_mistakes(threshold: list[str], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        choose(threshold, CLASSES)
    assert words in str(raised.value)


def test_a_file_written_is_read(tmp_path: Path) -> None:
    path = write_thresholds(tmp_path / "new" / "t.json", CLASSES, OWN, {"objective": "f1"})
    assert read_thresholds(path, CLASSES) == OWN
    assert choose([str(path)], CLASSES).values == OWN
    assert choose([str(path), "dog=0.9"], CLASSES).values == (0.1, 0.9, 0.3, 0.4)
    assert read_thresholds(path, CLASSES[::-1]) == OWN[::-1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "cannot be read as JSON"),
        ("[1, 2]", "holds no thresholds"),
        ('{"thresholds": 3}', "holds no thresholds"),
        ('{"cat": 0.3}', "no threshold for 'dog' (3 of 4 classes)"),
        (json.dumps(dict.fromkeys(CLASSES, "0.3")), "not a number between 0 and 1"),
        (json.dumps(dict.fromkeys(CLASSES, True)), "not a number between 0 and 1"),
        (json.dumps(dict.fromkeys(CLASSES, float("nan"))), "not a number between 0 and 1"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
)
def test_damaged_files(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(DataError) as raised:
        choose([str(tmp_path / "t.json")], CLASSES)
    assert words in str(raised.value)
