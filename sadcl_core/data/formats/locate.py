"""Find the images that a label file names: under which folder, and how a reference becomes a path.

Label files name images relative to themselves, to a folder beside them, with or without an extension, by their place on
another machine or in a bucket. A rule is found by trying a few references against the disk; it then holds for the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from sadcl_core.data.formats.source import SPLIT_NAMES, Source, split_name
from sadcl_core.errors import DataError

TRIED = 20  # references a rule is tried on
DEEPEST = 16  # leading parts that may be missing here
FOLDERS = 20  # beside a label file that images are looked for in
SUFFIXES = ("", ".jpg", ".png", ".jpeg", ".webp", ".bmp", ".JPG", ".PNG", ".JPEG")
ADDRESS = re.compile(r"^([a-z][a-z0-9+.-]+)://", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """Rule by which a reference of a label file becomes a path: root / prefix / what is left of it + suffix."""

    root: Path
    prefix: str = ""
    dropped: int = 0  # leading parts of the reference that are not on this disk
    suffix: str = ""

    def apply(self, reference: str) -> str:
        """Return the path relative to the root, normalised; it may climb out of it (see `inside`)."""
        rest = reference.split("/", min(self.dropped, reference.count("/")))[-1] if self.dropped else reference
        path = f"{self.prefix}/{rest}{self.suffix}" if self.prefix else f"{rest}{self.suffix}"
        return os.path.normpath(path) if "/." in path or path.startswith(".") or "//" in path else path


def find_rule(
    source: Source, file: Path, references: Sequence[str], *, split: str = "", elsewhere: bool = False
) -> tuple[Rule, bool]:
    """Return the rule that finds most of some references; one that leads to the likeliest folder if none finds any.

    Args:
        source: its root, or also the parent of it if the folder of the images was not given.
        file: the label file.
        references: of its images in one split, as from `cleaned`.
        split: its name; folders may be called after it.
        elsewhere: the references come from another machine, so leading parts may be missing here.

    Returns:
        The rule, and whether it finds any.

    Raises:
        DataError: other images of the same names lie in another folder beside the label file.
    """
    step = max(1, len(references) // TRIED)
    tried = list(references[::step][:TRIED])
    depth = _missing_parts(source.root, tried, elsewhere)
    own = _relative(file.parent, source.root)
    named = next((prefix for prefix in _prefixes(source.root, file, split) if prefix not in ("", own)), own)
    best, most = Rule(source.root, named), 0
    for root in (source.root, source.root.parent) if source.guess else (source.root,):
        likely, beside = list(_prefixes(root, file, split)), _beside(root, file)
        for dropped, prefix, suffix in product(range(depth + 1), [*likely, *beside], SUFFIXES):
            rule = Rule(root, prefix, dropped, suffix)
            matches = _count(rule, tried)
            if matches > most:
                best, most = rule, matches
                if matches == len(tried):
                    if prefix not in likely:
                        _refuse_second(rule, [other for other in beside if other != prefix], tried, file)
                    return best, True
    return best, most > 0


def _count(rule: Rule, references: Sequence[str]) -> int:
    """Return how many references a rule finds."""
    paths = (rule.apply(reference) for reference in references)
    return sum(not climbs_out(path) and os.path.isfile(rule.root / path) for path in paths)  # noqa: PTH113 - many


def _refuse_second(rule: Rule, beside: Sequence[str], references: Sequence[str], file: Path) -> None:
    """Raise if another folder beside a label file holds images of all the same names."""
    for prefix in beside:
        other = Rule(rule.root, prefix, rule.dropped, rule.suffix)
        if _count(other, references) == len(references):
            raise DataError(
                f"{file}: {references[0]} and the other images are in {rule.prefix}/ and in {prefix}/. Say with --data DIR which "
                "are meant, or write the folder into their paths."
            )


def _missing_parts(root: Path, references: Sequence[str], elsewhere: bool) -> int:
    """Count leading parts of the references that may be missing on this disk; one when they begin with the root's own name."""
    if elsewhere:
        return min(max((reference.count("/") for reference in references), default=0), DEEPEST)
    return int(bool(references) and all(reference.startswith(f"{root.resolve().name}/") for reference in references))


def _prefixes(root: Path, file: Path, split: str) -> Iterator[str]:
    """Yield folders under the root in which the images of one split of a label file may lie, the likeliest first."""
    own = _relative(file.parent, root)
    stem = file.stem
    of_stem = (stem, *re.findall(r"(?:train|val|test)\d{4}", stem), *re.split(r"[_\-.]", stem))
    of_stem = (*of_stem, *map(split_name, of_stem))
    of_split = [word for word, name in SPLIT_NAMES.items() if name == split] + [split]
    others = set(SPLIT_NAMES) - set(of_split) if split else set()  # a file called train may say that some rows are val
    seen = _folders_called(of_split)
    seen |= dict.fromkeys((own, "", *(f"{own}/{name}" if own else name for name in ("images", "img", "data"))))
    seen |= dict.fromkeys(("images", "img", "JPEGImages"))
    seen |= _folders_called([word for word in of_stem if word.lower() not in others])
    for prefix in seen:
        if not prefix or os.path.isdir(root / prefix):  # noqa: PTH112 - False for what is no path
            yield prefix


def _folders_called(words: Sequence[str]) -> dict[str, None]:
    """Return folders in which the images of something called so may lie."""
    return dict.fromkeys(path for word in words if word for path in (word, f"images/{word}", f"{word}/images"))


def _beside(root: Path, file: Path) -> list[str]:
    """Return the other folders beside a label file; its images are looked for there last."""
    own = _relative(file.parent, root)
    names = sorted(path.name for path in (root / own).iterdir() if path.is_dir() and not path.name.startswith("."))
    return [f"{own}/{name}" if own else name for name in names[:FOLDERS]]


def _relative(folder: Path, root: Path) -> str:
    """Return a folder relative to the root; empty for the root itself, and for a folder that is not under it."""
    own, base = folder.resolve(), root.resolve()
    return own.relative_to(base).as_posix().removeprefix(".") if own.is_relative_to(base) else ""


def cleaned(reference: str, root: Path, where: str) -> str:
    """Return a reference as forward-slashed text, relative to the root when it was an absolute path under it.

    Another absolute path stays one: it may be that of another machine.

    Raises:
        DataError: it is empty, no path, or an address.
    """
    text = reference.strip()
    if "\\" in text and "/" not in text:
        text = text.replace("\\", "/")
    if not text:
        raise DataError(f"{where}: the image has no name. Fill it in, or remove the row.")
    if "\0" in text or len(text) > 4096 or not is_text(text):
        raise DataError(f"{where}: {text[:60]!r} is not a path. Mend the row, or rename the image.")
    if ADDRESS.match(text):
        raise DataError(f"{where}: {text[:100]} is an address. Fetch the images first and give their paths.")
    if is_absolute(text):
        for base in (root, root.resolve()):
            if text.startswith(f"{base}/"):
                return text[len(str(base)) + 1 :]
        return text
    return os.path.normpath(text) if "/." in text or text.startswith(".") or "//" in text else text


def is_absolute(text: str) -> bool:
    """Return True if a path begins at the top of a disk."""
    return text.startswith("/") or re.match(r"^[A-Za-z]:/", text) is not None


def is_text(text: str) -> bool:
    """Return True if a text can be stored; half of a pair of surrogates, from JSON or the name of a file, cannot."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def without_scheme(reference: str) -> str:
    """Return the path of an address in a bucket, a datastore or a labelling tool, which may lie on this disk.

    `gs://bucket/a/b.jpg` is a/b.jpg, `/data/local-files/?d=a/b.jpg` is a/b.jpg, another text stays as it is.
    """
    try:
        parts = urlsplit(reference)
        local = parse_qs(parts.query).get("d", [""])[0]
    except ValueError:
        return reference
    if local:
        return local.lstrip("/")
    if parts.scheme and len(parts.scheme) > 1 and "://" in reference:
        return unquote(parts.path).lstrip("/")
    return reference.lstrip("/") if reference.startswith("/data/") else reference


def climbs_out(path: str) -> bool:
    """Return True if a normalised path leads out of the folder that it starts from."""
    return path == ".." or path.startswith(("../", "/"))


def outside(path: str, root: Path, where: str) -> DataError:
    """Return the error for a path that climbs out."""
    return DataError(
        f"{where}: {path} lies outside {root}. Say with --data DIR which folder holds all images; it may be {root.parent}."
    )


def inside(path: str, root: Path, where: str) -> str:
    """Return the path if it stays under the root.

    Raises:
        DataError: it climbs out.
    """
    if climbs_out(path):
        raise outside(path, root, where)
    return path
