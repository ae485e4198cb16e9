"""Find the images that a label file names: under which folder, and how a reference becomes a path.

Label files name images relative to themselves, to a folder beside them, with or without an extension, by their place on
another machine or in a bucket. A rule that holds for all references of a file is tried first, on a few of them. Images that it
leaves out are looked for by name among all images below the root: in several folders, in other case or Unicode form, with
another extension, without leading folders that are not here.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product, takewhile
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from sadcl_core.data.formats.source import SPLIT_NAMES, Source, split_name, split_of_folders
from sadcl_core.data.formats.walk import files_under
from sadcl_core.data.images import EXTENSIONS, UNSUPPORTED
from sadcl_core.data.interpretation import ImagePlace
from sadcl_core.errors import DataError

TRIED = 20  # references a rule is tried on
DEEPEST = 16  # leading parts that may be missing here
FOLDERS = 20  # beside a label file that images are looked for in
CONVERTED = (*EXTENSIONS, *UNSUPPORTED)  # extensions in place of which an image may have another
ALIKE = 100_000  # names that are compared with that of a missing image
SUFFIXES = ("", *EXTENSIONS, *map(str.upper, EXTENSIONS))
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


@dataclass
class Located:
    """Places of the images of one label file and split.

    Attributes:
        root: that the paths start from.
        paths: of each reference, in the likeliest place where nothing is found.
        missing: numbers of the references for which nothing is found.
        places: how the others were found, each with how many.
        note: on how they were found, for the person who prepares the data.
    """

    root: Path
    paths: list[str]
    missing: list[int] = field(default_factory=list)
    places: Counter[ImagePlace] = field(default_factory=Counter)
    note: str = ""


class Images:
    """All images below a folder, by name; also those of kinds that cannot be read, which errors then name."""

    def __init__(self, root: Path) -> None:
        """Look through the folder when the first image is asked for."""
        self.root = root
        self._paths: list[str] | None = None
        self._by_key: dict[Key, dict[str, list[str]]] = {}

    @property
    def paths(self) -> list[str]:
        """The images, relative to the folder; one of a kind that cannot be read only where no other has its name."""
        if self._paths is None:
            files = [*files_under(self.root, CONVERTED)]
            readable = [path for path in files if path.lower().endswith(EXTENSIONS)]
            stems = {_bare(path) for path in readable} if len(readable) < len(files) else set()
            others = (path for path in files if path.lower().endswith(UNSUPPORTED) and _bare(path) not in stems)
            self._paths = [*readable, *others]
        return self._paths

    def _by(self, key: Key) -> Mapping[str, Sequence[str]]:
        """Return the images by their names in the form of a key."""
        if key not in self._by_key:
            by_name = self._by_key[key] = {}
            for path in self.paths:
                by_name.setdefault(key(path.rpartition("/")[2]), []).append(path)
        return self._by_key[key]

    def candidates(self, reference: str, *, droppable: int, key: Key) -> list[str]:
        """Return the images that a reference may mean: those whose path ends as it does, with as few parts dropped as can be.

        At most `droppable` leading parts may be missing here; paths are compared in the form that the key gives them.
        """
        paths = self._by(key).get(key(reference.rpartition("/")[2]), ())
        if not paths:
            return self.candidates(unquote(reference), droppable=droppable, key=key) if unquote(reference) != reference else []
        parts, own = key(reference.lstrip("/")).split("/"), split_of_folders(reference)
        if own:
            paths = [path for path in paths if split_of_folders(path) in (own, "")]
        ends = {path: f"/{key(path)}" for path in paths}
        for dropped in range(min(droppable, len(parts) - 1) + 1):
            tail = "/" + "/".join(parts[dropped:])
            if fitting := [path for path, end in ends.items() if end.endswith(tail)]:
                return [path for path in fitting if path.endswith(reference.rpartition("/")[2])] or fitting
        return []

    def nearest(self, reference: str) -> str:
        """Return the image with the name nearest to a reference and the same numbers in it; empty if no name is near."""
        name = reference.rpartition("/")[2]
        same = next((paths for key in KEYS if (paths := self._by(key).get(key(name)))), ())
        if same:
            return same[0]
        stems, numbers = self._by(_bare), _numbers_in(name)
        alike = [stem for stem in islice(stems, ALIKE) if _numbers_in(stem) == numbers]
        close = difflib.get_close_matches(_bare(name), alike, 1, 0.6)
        return stems[close[0]][0] if close else ""


def plain(path: str) -> str:
    """Return a path in the form in which names are compared: without regard to case and to how letters are composed."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _bare(path: str) -> str:
    """Return a path in the form in which names are compared, without the extension of an image."""
    text = plain(path)
    stem, extension = os.path.splitext(text)  # noqa: PTH122 - many
    return stem if extension in CONVERTED else text


def _numbered(path: str) -> str:
    """Return a path in the form in which numbers are compared: 00012.jpg and 12.0, as programs write identifiers, are 12."""
    folder, slash, name = _bare(path).rpartition("/")
    return folder + slash + re.sub(r"^0*(\d+?)(?:\.0+)?$", r"\1", name)


def _numbers_in(text: str) -> list[str]:
    return [number.lstrip("0") for number in re.findall(r"\d+", _bare(text))]


Key = Callable[[str], str]
KEYS: tuple[Key, ...] = (plain, _bare, _numbered)  # in which names are compared, the strictest first


def common_folders(references: Sequence[str]) -> int:
    """Return how many leading folders all references have in common.

    Example:
        >>> common_folders(["mine/train/a.jpg", "mine/val/b.jpg"]), common_folders(["a.jpg", "mine/b.jpg"])
        (1, 0)
    """
    first, last = (min(references).split("/"), max(references).split("/")) if references else ([], [])
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first[:-1], last[:-1], strict=False)))


def locate(
    source: Source,
    file: Path,
    references: Sequence[str],
    *,
    images: Images,
    split: str = "",
    droppable: int = 0,
    elsewhere: bool = False,
) -> Located:
    """Find the images of one label file and split, among all images below the root, or below its parent if no folder was given.

    The references are as from `cleaned`. So many leading parts as are droppable, which all have in common, may be missing here;
    any may be that come from elsewhere, another machine. Folders may be called after the split.

    Raises:
        DataError: an image may be one of several.
    """
    elsewhere = elsewhere or all(map(is_absolute, references))
    depth = min(max((reference.count("/") for reference in references), default=0), DEEPEST) if elsewhere else droppable
    rule, usable = _find_rule(source, file, references, split=split, depth=depth)
    paths = list(map(rule.apply, references))
    listing = _Listing(rule.root)
    missing = [k for k, path in enumerate(paths) if not listing.has(path)] if usable else list(range(len(paths)))
    absent = set(missing)
    found = _places_of(rule, [reference for k, reference in enumerate(references) if k not in absent] if absent else references)
    above = "" if rule.root == images.root else f"{images.root.name}/"
    claimed = set(paths).difference(paths[k] for k in missing)
    note = ""
    for key in KEYS if missing and images.paths else ():
        listed = len(missing) < len(paths)  # some have the extension that they are listed with, so the others may be missing
        if key is _numbered and listed:
            break
        matches: dict[int, str] = {}
        for k in missing:
            reference = references[k]
            if key is not plain and listed and reference.lower().endswith(EXTENSIONS):
                continue
            candidates = images.candidates(
                reference, droppable=DEEPEST if elsewhere or is_absolute(reference) else droppable, key=key
            )
            candidates = [path for path in candidates if above + path not in claimed]
            if path := _only_one(candidates, split, file, reference):
                matches[k] = path
        if key is _numbered and matches:
            if len(matches) < len(missing):
                break
            k, path = next(iter(matches.items()))
            note = f"images are found by their numbers: {references[k]} is {path}"
        for k, path in matches.items():
            paths[k] = above + path
            found[_place(references[k], path)] += 1
        missing = [k for k in missing if k not in matches]
    return Located(rule.root, paths, missing, found, note)


def _only_one(candidates: Sequence[str], split: str, file: Path, reference: str) -> str:
    """Return the one image of a split that a reference may mean, best in a folder called after the split; empty without any.

    Raises:
        DataError: there are several.
    """
    matches = [path for path in candidates if split_of_folders(path) in ("", split or split_of_folders(path))]
    if len(matches) > 1:
        matches = [path for path in matches if split and split_of_folders(path) == split] or matches
    if len(matches) > 1:
        raise _several(file, reference, matches)
    return matches[0] if matches else ""


def _places_of(rule: Rule, references: Sequence[str]) -> Counter[ImagePlace]:
    """Return where a rule finds images, by the folders that it leaves out, with how many."""
    if not rule.dropped and not any(reference.startswith("../") for reference in references):
        return Counter({ImagePlace(rule.prefix, 0, extension=rule.suffix): len(references)} if references else {})
    places: Counter[ImagePlace] = Counter()
    for reference in references:
        parts = reference.split("/")
        up = sum(1 for _ in takewhile(lambda part: part == "..", parts))
        prefix = rule.prefix.split("/")
        dropped = "/".join(parts[:-1][: rule.dropped])
        places[ImagePlace("/".join(prefix[: max(len(prefix) - up, 0)]), 0, dropped, rule.suffix)] += 1
    return places


def as_listed(root: Path, paths: Sequence[str]) -> Located:
    """Return the places of images whose paths under the root are known: the folder that they have in common, by extension."""
    listing = _Listing(root)
    there = [listing.has(path) for path in paths]
    extensions = Counter(os.path.splitext(path)[1] for path, here in zip(paths, there, strict=True) if here)  # noqa: PTH122 - many
    folder = "/".join(paths[0].split("/")[: common_folders(paths)]) if paths else ""
    places = Counter({ImagePlace(folder, 0, extension=extension): count for extension, count in extensions.items()})
    missing = [k for k, here in enumerate(there) if not here]
    return Located(root, list(paths), missing, places)


def _place(reference: str, path: str) -> ImagePlace:
    """Return where an image lies in comparison to its reference."""
    parts, there = reference.split("/"), path.split("/")
    same = 1
    while same < min(len(parts), len(there)) and plain(parts[-same - 1]) == plain(there[-same - 1]):
        same += 1
    extension = os.path.splitext(path)[1]  # noqa: PTH122
    changed = "" if plain(parts[-1]).endswith(extension.lower()) else extension
    return ImagePlace("/".join(there[:-same]), 0, "/".join(parts[:-same]), changed)


def _several(file: Path, reference: str, matches: Sequence[str]) -> DataError:
    """Return the error for an image that may be one of several."""
    one, other = (path.rpartition("/")[0] or "." for path in matches[:2])
    if one == other:
        one, other = matches[:2]
    return DataError(
        f"{file}: {reference[:200]} may be in {one}/ and in {other}/. Say with --data DIR which are meant, or write the folder "
        "into their paths."
    )


class _Listing:
    """The names of the files in the folders below a root; each folder is read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, frozenset[str]] = {}

    def has(self, path: str) -> bool:
        """Return True if there is a file."""
        folder, _, name = path.rpartition("/")
        names = self._folders.get(folder)
        if names is None:
            try:
                names = frozenset() if climbs_out(path) else frozenset(os.listdir(self.root / folder))  # noqa: PTH208 - names alone
            except (OSError, ValueError):
                names = frozenset()
            self._folders[folder] = names
        return name in names


def _find_rule(source: Source, file: Path, references: Sequence[str], *, split: str, depth: int) -> tuple[Rule, bool]:
    """Return the rule that finds most of some references, and whether it may be used; one for the likeliest folder if none does.

    A rule for a folder whose name says nothing may be used only if it finds all of them.
    """
    step = max(1, len(references) // TRIED)
    tried = list(references[::step][:TRIED])
    own = _relative(file.parent, source.root)
    named = next((prefix for prefix in _prefixes(source.root, file, split) if prefix not in ("", own)), own)
    best, most, usable = Rule(source.root, named), 0, True
    suffixes = SUFFIXES if any(not reference.lower().endswith(EXTENSIONS) for reference in tried) else ("",)
    for root in (source.root, source.root.parent) if source.guess else (source.root,):
        likely, beside = list(_prefixes(root, file, split)), _beside(root, file)
        for dropped, prefix, suffix in product(range(depth + 1), [*likely, *beside], suffixes):
            rule = Rule(root, prefix, dropped, suffix)
            matches = _count(rule, tried)
            if matches == len(tried) and matches:
                _refuse_second(rule, [prefix] if prefix in likely else beside, tried, file)
                return rule, True
            if matches > most:
                best, most, usable = rule, matches, prefix in likely and root == source.root
    return best, usable


def _count(rule: Rule, references: Sequence[str]) -> int:
    """Return how many references a rule finds."""
    paths = (rule.apply(reference) for reference in references)
    return sum(not climbs_out(path) and os.path.isfile(rule.root / path) for path in paths)  # noqa: PTH113 - many


def _refuse_second(rule: Rule, folders: Sequence[str], references: Sequence[str], file: Path) -> None:
    """Raise if some folders hold other images of all the same names, or of another extension where none is listed, as masks."""
    for prefix, suffix in product(folders, SUFFIXES if rule.suffix else ("",)):
        other = Rule(rule.root, prefix, rule.dropped, suffix)
        same = prefix == rule.prefix and suffix.lower() == rule.suffix.lower()
        if not same and _count(other, references) == len(references):
            one, second = (f"{one.prefix or '.'}/{one.suffix and '*'}{one.suffix}" for one in (rule, other))
            raise DataError(
                f"{file}: {references[0]} and the other images are in {one} and in {second}. Say with --data DIR which are "
                f"meant, or write the {'extension' if prefix == rule.prefix else 'folder'} into their paths."
            )


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

    Another absolute path stays one: it may be from another machine.

    Raises:
        DataError: it is empty or no path.
    """
    text = reference.strip().replace("\\", "/")
    if not text:
        raise DataError(f"{where}: the image has no name. Fill it in, or remove the row.")
    if "\0" in text or len(text) > 4096 or not is_text(text):
        raise DataError(f"{where}: {text[:60]!r} is not a path. Mend the row, or rename the image.")
    if is_absolute(text):
        for base in (root, root.resolve()):
            if text.startswith(f"{base}/"):
                return text[len(str(base)) + 1 :]
        return text
    return os.path.normpath(text) if "/." in text or text.startswith(".") or "//" in text else text


def is_absolute(text: str) -> bool:
    """Return True if a path begins at the top of a disk."""
    return text[:1] == "/" or (text[1:3] == ":/" and text[:1].isalpha())


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
