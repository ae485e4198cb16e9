"""Rows that are only added, found by content, and removed when nobody uses them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sadcl_core.errors import DataError, MachineError, UsageError
from sadcl_core.inference.feature_store import (
    FeatureCard,
    FeatureStore,
    clear_features,
    content_hashes,
    default_folder,
    record,
    stored_features,
)

FACTS = {"backbone": "test_resnet", "img_size": 64, "stride": 32, "shapes": ((2, 2, 3), (1, 1, 5)), "computed": "fp32"}


def card(weights: str = "a", kept: str = "fp32") -> FeatureCard:
    return FeatureCard.model_validate(
        {**FACTS, "weights": weights, "mean": (0.5,) * 3, "std": (0.5,) * 3, "kept": kept, "timm": "1.0"}
    )


def names(*numbers: int, view: str = "plain") -> list[bytes]:
    return [record(bytes([number] * 16), view) for number in numbers]


def rows(*numbers: int) -> npt.NDArray[np.float32]:
    return np.array(numbers, np.float32)[:, None] * np.ones(17, np.float32)


def fill(root: Path, *numbers: int, weights: str = "a") -> None:
    with FeatureStore(root, card(weights)) as store, store.writing():
        store.append(names(*numbers), rows(*numbers))


def test_rows_are_found_by_content_and_view(tmp_path: Path) -> None:
    fill(tmp_path, 1, 2)
    with FeatureStore(tmp_path, card()) as store:
        assert store.find([*names(2), *names(2, view="mirror"), *names(1, 3)]).tolist() == [1, -1, 0, -1]
        assert np.array_equal(store.read(np.array([1, 0, 1])), rows(2, 1, 2))
        assert len(store) == 2


@pytest.mark.parametrize("change", [{"weights": "b"}, {"kept": "fp16"}])
def test_another_backbone_or_precision_has_another_folder(tmp_path: Path, change: dict[str, str]) -> None:
    fill(tmp_path, 1)
    with FeatureStore(tmp_path, card(**change)) as store:
        assert len(store) == 0


def test_half_precision_takes_half_the_bytes() -> None:
    assert card().row_bytes == 2 * card(kept="fp16").row_bytes == 17 * 4


@pytest.mark.parametrize(("index_bytes", "row_bytes"), [(40, 0), (0, 70), (64, 68), (32, 30)])
def test_rows_that_were_cut_short_do_not_count_and_are_written_again(tmp_path: Path, index_bytes: int, row_bytes: int) -> None:
    """A process was killed, or a machine lost its power, after so many bytes of a third and fourth row."""
    fill(tmp_path, 1, 2)
    folder = tmp_path / card().key
    for name, size in (("index.bin", index_bytes), ("rows.bin", row_bytes)):
        with (folder / name).open("ab") as file:
            file.write((b"".join(names(3, 4)) if name == "index.bin" else rows(3, 4).tobytes())[:size])
    with FeatureStore(tmp_path, card()) as store:
        with store.writing():
            before = len(store)
            store.append(names(7), rows(7))
        assert before == 2 + min(index_bytes // 32, row_bytes // 68)
        assert np.array_equal(store.read(store.find(names(7, 1))), rows(7, 1))
    with FeatureStore(tmp_path, card()) as again:
        assert len(again) == before + 1
        assert np.array_equal(again.read(again.find(names(2, 7))), rows(2, 7))


def test_a_process_sees_what_another_one_adds(tmp_path: Path) -> None:
    with FeatureStore(tmp_path, card()) as reader:
        fill(tmp_path, 5)
        assert reader.find(names(5)).tolist() == [-1]
        reader.refresh()
        assert np.array_equal(reader.read(reader.find(names(5))), rows(5))


def test_a_process_waits_while_another_one_writes(tmp_path: Path) -> None:
    waited = []
    with FeatureStore(tmp_path, card()) as one, FeatureStore(tmp_path, card()) as other:
        held = one.writing()
        held.__enter__()

        def wait() -> None:
            waited.append(True)
            held.__exit__(None, None, None)

        with other.writing(wait):
            other.append(names(1), rows(1))
    assert waited == [True]


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    for number, weights in enumerate("abc", start=1):
        fill(tmp_path, 1, 2, weights=weights)
        os.utime(tmp_path / card(weights).key / "about.json", (number, number))
    size = sum(entry.bytes for entry in stored_features(tmp_path))
    with FeatureStore(tmp_path, card("a")), FeatureStore(tmp_path, card("d")) as store:  # a is in use
        own = stored_features(tmp_path)
        assert {entry.key for entry in own if entry.in_use} == {card("a").key, card("d").key}
        assert store.make_room(68, 68, limit=size + 10_000) == ()
        assert store.make_room(68, 68, limit=size + 68) == (card("b").key,)
        with pytest.raises(UsageError, match=r"in use, and features.limit_gb leaves no room"):
            store.make_room(68, 68, limit=500)
    assert {entry.card.weights for entry in stored_features(tmp_path)} == {"a", "d"}


def test_a_run_that_does_not_fit_alone_is_refused_and_removes_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 1, weights="b")
    with FeatureStore(tmp_path, card()) as store:
        with pytest.raises(UsageError, match=r"take 200.0 GB, more than features.limit_gb allows. Lower features.views"):
            store.make_room(10**9, 200 * 10**9, limit=10**11)
        with pytest.raises(MachineError, match=r"has .* free"):
            store.make_room(10**18, 10**18, limit=10**19)
    assert len(stored_features(tmp_path)) == 2


def test_clearing(tmp_path: Path) -> None:
    fill(tmp_path, 1, 1, weights="a")
    fill(tmp_path, 1, weights="b")
    a, b = (next(entry for entry in stored_features(tmp_path) if entry.card.weights == weights) for weights in "ab")
    assert (a.images, a.rows, b.rows, a.in_use) == (1, 2, 1, False)
    with pytest.raises(UsageError, match="holds no feature maps under 'zzz'"):
        clear_features(tmp_path, "zzz")
    with FeatureStore(tmp_path, card("a")):
        with pytest.raises(UsageError, match="in use by another process"):
            clear_features(tmp_path, a.key[:6])
        assert [entry.key for entry in clear_features(tmp_path)] == [b.key]
    assert [entry.key for entry in clear_features(tmp_path, a.key[:6])] == [a.key]
    assert stored_features(tmp_path) == clear_features(tmp_path / "none") == ()


def test_marks_of_processes_that_died_keep_nothing(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    (tmp_path / card().key / "users" / "123-dead.lock").touch()
    assert not stored_features(tmp_path)[0].in_use


def test_damaged_folders_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, 1)
    for name, text in {"other": "{", "deep": "[" * 100_000}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "about.json").write_text(text)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "about.json")
    assert len(stored_features(tmp_path)) == 1


def test_hashes_are_of_the_content_and_remembered(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    one.write_bytes(b"a photo")
    same.write_bytes(b"a photo")
    other.write_bytes(b"another")
    first = content_hashes(tmp_path, [one, same, other, one])
    assert first[0] == first[1] == first[3] != first[2]
    state = one.stat()
    one.write_bytes(b"A PHOTO")
    os.utime(one, ns=(state.st_atime_ns, state.st_mtime_ns))  # as if it had not changed: it is not read again
    assert content_hashes(tmp_path, [one]) == first[:1]
    os.utime(one, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert content_hashes(tmp_path, [one]) != first[:1]
    with pytest.raises(DataError, match="gone: no such file"):
        content_hashes(tmp_path, [tmp_path / "gone"])


def test_a_damaged_memory_of_hashes_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a photo")
    first = content_hashes(tmp_path, [tmp_path / "a"])
    (tmp_path / "contents.sqlite").write_bytes(b"no database" * 100)
    assert content_hashes(tmp_path, [tmp_path / "a"]) == first


def test_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/sadcl/features")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_folder() == Path.home() / ".cache/sadcl/features"
