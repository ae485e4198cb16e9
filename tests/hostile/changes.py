"""Change what stands in a file at random: for the tests of the readers, and for the search that goes on for as long as it may."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

Draw = st.DataObject

SNIPPETS = (
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe4", b"\n", b"\r", b'"', b"'", b",", b";", b"[", b"]", b"{", b"}", b":", b"-1"),
    *(b"nan", b"../", b"/", b"\\", b"&a", b"*a", b"!!python/name:os", b"<!DOCTYPE a>", b"\\ud800", b"9" * 400, b"1e999"),
    *(b"<a>", b"&#0;", b"~"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5) | st.just("../../a"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "image", "labels", "", "\ud800"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def changed(content: bytes, data: Draw) -> bytes:
    """Return other bytes, the content with a few bytes or lines changed or, of JSON, with a few values replaced."""
    way = data.draw(st.integers(0, 9))
    if way == 0:
        return data.draw(st.binary(max_size=300))
    texts = list(_documents(content)) if way > 4 else []
    if not texts:
        return _changed_bytes(content, data)
    place = data.draw(st.integers(0, len(texts) - 1))
    texts[place] = json.dumps(changed_values(json.loads(texts[place]), data))
    return "\n".join(texts).encode()


def changed_values(document: Any, data: Draw) -> Any:
    """Return a document of JSON with a few values replaced or taken away."""
    holder = {"": json.loads(json.dumps(document))}
    for _ in range(data.draw(st.integers(1, 3))):
        _replace_one(holder, data)
    return holder[""]


@lru_cache
def _documents(content: bytes) -> tuple[str, ...]:
    """Return the document of JSON that a content is, or one in each line; empty for others."""
    for split in (lambda text: [text], str.splitlines):
        try:
            texts = tuple(split(content.decode()))
            if all(isinstance(json.loads(text), dict | list) for text in texts):
                return texts
        except ValueError:
            continue
    return ()


def _changed_bytes(content: bytes, data: Draw) -> bytes:
    """Return bytes with a few of them flipped, put in, cut off or dropped, or with lines dropped or doubled."""
    result = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(len(result) - 1, 0)))
        change = data.draw(st.integers(0, 5))
        if change == 0 and result:
            result[place] ^= 1 << data.draw(st.integers(0, 7))
        elif change == 1:
            result[place:place] = data.draw(st.sampled_from(SNIPPETS))
        elif change == 2:
            del result[place:]
        elif change == 3:
            del result[place : place + data.draw(st.integers(1, 10))]
        else:
            lines = result.splitlines(keepends=True)
            chosen = data.draw(st.integers(0, max(len(lines) - 1, 0)))
            lines[chosen : chosen + 1] = lines[chosen : chosen + 1] * (2 if change == 4 else 0)
            result = bytearray(b"".join(lines))
    return bytes(result)


def _replace_one(document: Any, data: Draw) -> None:
    """Walk down to a value, and put another one in its place, or take it away."""
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        key = data.draw(st.sampled_from(keys))
        inner = document[key]
        if not isinstance(inner, (dict, list)) or not inner or data.draw(st.integers(0, 4)) == 0:
            break
        document = inner
    if key != "" and data.draw(st.integers(0, 4)) == 0:
        del document[key]
    else:
        document[key] = data.draw(VALUES)
