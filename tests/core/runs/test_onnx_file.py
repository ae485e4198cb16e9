from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sadcl_core.errors import DataError
from sadcl_core.runs.card import read_card
from sadcl_core.runs.onnx_file import is_onnx, read_metadata


def content(entries: dict[str, str]) -> bytes:
    """A small model with metadata."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 300])
    weights = helper.make_tensor("w", TensorProto.FLOAT, [300], [0.5] * 300)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [value], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [weights])
    model = helper.make_model(graph)
    helper.set_model_props(model, entries)
    return bytes(model.SerializeToString())


@settings(max_examples=40, deadline=None)
@given(entries=st.dictionaries(st.text(max_size=200), st.text(max_size=3000), max_size=5))
def test_metadata_is_read_as_the_package_reads_it(entries: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("onnx") / "m.onnx"
    path.write_bytes(content(entries))
    assert read_metadata(path) == entries == {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_damaged_files(tmp_path: Path) -> None:
    whole, path = content({"sadcl": "{}", "names": "x" * 400}), tmp_path / "m.onnx"
    for damaged in (whole[:-7], whole[: len(whole) // 2], b"no model", b"\xff" * 100, whole + b"\x0d\0\0\0\0"):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"m\.onnx is not a whole ONNX file"):
            read_metadata(path)
    path.write_bytes(b"")
    assert read_metadata(path) == {}
    with pytest.raises(DataError, match="no description of a sadcl model"):
        read_card(path)
    with pytest.raises(DataError, match="no model file"):
        read_metadata(tmp_path / "none.onnx")
    with pytest.raises(DataError, match="not a whole ONNX file"):
        read_metadata(tmp_path)


def test_names() -> None:
    assert is_onnx(Path("a/model.ONNX"))
    assert not is_onnx(Path("onnx"))
