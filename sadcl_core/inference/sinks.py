"""Places that labels go to beside a table: text files beside images, folders of links, keywords inside images, pictures."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from sadcl_core.data.images import EXTENSIONS, NamedImage, open_image
from sadcl_core.errors import MachineError, UsageError
from sadcl_core.inference.predict import Prediction, printable_name
from sadcl_core.inference.predictor import Predictor
from sadcl_core.inference.thresholds import ThresholdRequest
from sadcl_core.runtime.files import explained, plain_path, replacing, safe_name, write_json, write_text

NO_LABEL = "no label"  # the folder of images without one
JOB = ".sadcl.json"  # in a folder that this program fills: by what
LONGEST = 200  # bytes of a part of a path
TAG_SIDE = 1280  # pixels of the longer side of annotated pictures


class Sink(ABC):
    """A place that labels of images go to. It is called from several threads, in `with sink.opened()`."""

    needs_details = False

    @property
    def place(self) -> str:
        """Return its kind and its folder: whoever goes on with a file gives the same, or the first images would lack there."""
        folder: Path | None = getattr(self, "folder", None)
        return type(self).__name__ if folder is None else f"{type(self).__name__} {folder.absolute()}"

    @abstractmethod
    def __call__(self, image: NamedImage, prediction: Prediction) -> None:
        """Take an image that could be read, and its labels. Doing so twice changes nothing more.

        Raises:
            SadclError: the place cannot be written to.
        """

    @contextmanager
    def opened(self) -> Iterator[Sink]:
        """Yield itself, ready to be called."""
        yield self


class Tags(Sink):
    """Text files with the labels of an image between commas, as trainers of image generators and taggers read them.

    Args:
        folder: for the files, by the paths of the images; beside the images if None.
        append: put labels behind the tags that are there already, unless they are among them.
        underscore: write `_` for a space.
        exist_ok: write over files with other tags.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> image = NamedImage("a.jpg", folder / "a.jpg")
        >>> (folder / "a.txt").write_text("my cat")
        6
        >>> Tags(append=True, underscore=True)(image, Prediction("a.jpg", (("sea lion", 0.9), ("my cat", 0.8))))
        >>> (folder / "a.txt").read_text()
        'my cat, sea_lion, my_cat'
    """

    def __init__(
        self, folder: Path | None = None, *, append: bool = False, underscore: bool = False, exist_ok: bool = False
    ) -> None:
        """See the class."""
        self.folder, self.append, self.underscore, self.exist_ok = folder, append, underscore, exist_ok
        self._file_of = FileNames(".txt", folder, "--txt-dir")

    def __call__(self, image: NamedImage, prediction: Prediction) -> None:
        """Write the file of an image."""
        path = self._file_of(image)
        tags = [self._tag(name) for name, _ in prediction.labels]
        with explained(path, "--txt-dir"):
            content = path.read_bytes() if path.exists() else None
        before = None if content is None else content.decode("utf-8-sig", errors="replace")
        if before is not None and self.append:
            if "\ufffd" in before:
                raise UsageError(f"{path} is not UTF-8, and --append would spoil its tags. Save it as UTF-8.")
            there = [tag.strip() for tag in before.replace("\n", ",").split(",") if tag.strip()]
            tags = [*there, *(tag for tag in tags if tag not in there)]
        text = ", ".join(tags)
        if before is not None and before.strip() == text:
            return
        if before is not None and not (self.append or self.exist_ok):
            raise UsageError(f"{path} is there already. Give --append to add to it, or --exist-ok to write over it.")
        write_text(path, text, "--txt-dir")

    def _tag(self, name: str) -> str:
        """Return a class name as a tag: on one line, without commas."""
        words = " ".join(name.replace(",", " ").split())
        return words.replace(" ", "_") if self.underscore else words


class FileNames:
    """Paths of files about images: a.txt for a.jpg, but a.jpg.txt where a.png or A.JPG lies beside it, so that none is shared.

    Nobody can say what lies beside an image in a shard or at an address: theirs is 1.jpg.txt for 1.jpg. They lie in a folder
    by the paths of the images, or beside the images if that is None; `option` chooses another one.
    """

    def __init__(self, suffix: str, folder: Path | None = None, option: str = "-o") -> None:
        """See the class."""
        self.suffix, self.folder, self.option = suffix, folder, option
        self._shared = lru_cache(maxsize=64)(_shared_stems)

    def __call__(self, image: NamedImage) -> Path:
        """Return the path of the file of an image.

        Raises:
            UsageError: the image is not on the disk, and no folder was given, or a pipe, a device or a folder is at the path.
        """
        path = self._path(image)
        with explained(path, self.option):
            if path.exists() and not path.is_file():
                raise UsageError(f"{path} is not a regular file. Remove or rename it.")
        return path

    def _path(self, image: NamedImage) -> Path:
        source = image.source
        if not isinstance(source, Path):
            if self.folder is None:
                raise UsageError(f"{image.name} is not on the disk, so nothing can be written beside it. Give {self.option} DIR.")
            path = path_below(image, self.folder)
            return path.with_name(f"{path.name}{self.suffix}")
        path = source if self.folder is None else path_below(image, self.folder)
        with explained(path, self.option):
            shared = source.stem.lower() in self._shared(source.parent)
        return path.with_name(f"{path.name}{self.suffix}") if shared else path.with_suffix(self.suffix)


def _shared_stems(folder: Path) -> frozenset[str]:
    """Return the stems, in lower case, that several images of a folder have, or that are the whole name of another."""
    names = []
    for entry in os.scandir(folder):
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 # of a name, not of a path
        if suffix in EXTENSIONS or not (suffix or entry.is_dir()):
            names.append(entry.name.lower())
    stems = Counter(os.path.splitext(name)[0] for name in names)  # noqa: PTH122
    return frozenset(stem for stem, times in stems.items() if times > 1) | (stems.keys() & set(names))


class Sorted(Sink):
    """Folders by label, with a link to each image of the label; images in shards and at addresses are copied.

    They lie in a folder that is new, empty, or filled by the same job, unless `exist_ok`; the job is what the labels depend on,
    as for JSON.
    """

    def __init__(self, folder: Path, classes: Sequence[str], job: Mapping[str, Any], *, exist_ok: bool = False) -> None:
        """See the class."""
        claim_folder(folder, job, option="--sort", exist_ok=exist_ok)
        self.folder, self.names = folder, folder_names([*classes, NO_LABEL])
        self._lock = threading.Lock()

    def __call__(self, image: NamedImage, prediction: Prediction) -> None:
        """Link an image into the folder of each of its labels."""
        base = path_below(image, Path()).name
        for label in [name for name, _ in prediction.labels] or [NO_LABEL]:
            folder = self.folder / self.names[label]
            with explained(folder, "--sort"), self._lock:  # two images of one name take turns
                folder.mkdir(parents=True, exist_ok=True)
                self._put(image, folder, base)

    def _put(self, image: NamedImage, folder: Path, base: str) -> None:
        digest = _digest(image)
        stem, suffix = os.path.splitext(base)  # noqa: PTH122 # of a name, not of a path
        if not isinstance(image.source, Path):
            path = folder / f"{stem}-{digest}{suffix}"
            if not path.exists():
                content = image.fetch()
                assert isinstance(content, bytes), "is no path"
                with replacing(path, "--sort") as temporary:
                    temporary.write_bytes(content)
            return
        target = os.path.abspath(image.source)  # noqa: PTH100 # links in it stay
        for path in (folder / base, folder / f"{stem}-{digest}{suffix}"):
            if path.is_symlink() and os.fspath(path.readlink()) == target:
                return
            if not (path.is_symlink() or path.exists()):
                path.symlink_to(target)
                return


class Keywords(Sink):
    """Labels as keywords that photo programs read, XMP dc:subject and IPTC Keywords, written by exiftool.

    They go inside the images, or into a file `a.xmp` beside each. Keywords that are there stay. With `inside`, exiftool keeps
    the image as it was beside it, as `a.jpg_original`.

    Raises:
        MachineError: exiftool is not installed.
    """

    def __init__(self, where: Literal["inside", "sidecar"]) -> None:
        """See the class."""
        self.inside = where == "inside"
        self._file_of = FileNames(".xmp")
        self._lock = threading.Lock()
        try:
            subprocess.run(["exiftool", "-ver"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            raise MachineError("--keywords needs the program exiftool. Install it: apt install libimage-exiftool-perl.") from None

    @contextmanager
    def opened(self) -> Iterator[Sink]:
        """Run exiftool, once for all images."""
        self._tool = subprocess.Popen(
            ["exiftool", "-stay_open", "True", "-@", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="surrogateescape",
        )
        try:
            yield self
        finally:
            if self._tool.returncode is None:  # it has not ended by itself
                self._tool.communicate("-stay_open\nFalse\n")

    def __call__(self, image: NamedImage, prediction: Prediction) -> None:
        """Write the keywords of an image.

        Raises:
            UsageError: the image is not a file on the disk, or exiftool cannot write into it.
            MachineError: exiftool ended before it was told to.
        """
        if not isinstance(image.source, Path):
            raise UsageError(f"{image.name} is no file on the disk, so it has no keywords.")
        path = Path(os.path.abspath(image.source if self.inside else self._file_of(image)))  # noqa: PTH100 # not taken for an option
        tags = ("XMP-dc:Subject", "IPTC:Keywords") if self.inside else ("XMP-dc:Subject",)
        names = [" ".join(name.split()) for name, _ in prediction.labels]
        lines = [
            f"-{tag}{sign}={name}" for name in names for tag in tags for sign in "-+"
        ]  # taken out first: none is there twice
        if lines:
            options = ["-codedcharacterset=utf8"] if self.inside else []
            self._run([*options, *lines, _argument(path)], image)

    def _run(self, lines: Sequence[str], image: NamedImage) -> None:
        assert self._tool.stdin is not None, "a pipe"
        assert self._tool.stdout is not None, "a pipe"
        with self._lock:
            with suppress(BrokenPipeError):  # it ended, as its output says below
                self._tool.stdin.write("\n".join(["-m", *lines, "-execute", ""]))
                self._tool.stdin.flush()
            answer = []
            for line in self._tool.stdout:
                if line.startswith("{ready"):
                    break
                answer.append(line.strip())
            else:
                with suppress(BrokenPipeError):
                    self._tool.stdin.close()
                self._tool.stdout.close()
                self._tool.wait()
                raise MachineError(f"exiftool ended at {printable_name(image.name)} ({' '.join(answer)[:200]}). Try it again.")
        error = next((line for line in answer if line.startswith("Error")), None)
        if error is not None:
            raise UsageError(
                f"{printable_name(image.name)}: exiftool cannot write keywords ({error[:200]}). Try --keywords sidecar."
            )


def _argument(path: Path) -> str:
    """Return a path as a line for exiftool."""
    text = os.fspath(path)
    if "\n" not in text and "\r" not in text:
        return text
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"#[CSTR]{escaped}"


class Annotated(Sink):
    """Pictures with the labels below and where each was seen, as JPEG, by the paths of the images; otherwise as `Sorted`."""

    needs_details = True

    def __init__(self, folder: Path, job: Mapping[str, Any], *, exist_ok: bool = False) -> None:
        """See the class."""
        claim_folder(folder, job, option="--annotate", exist_ok=exist_ok)
        self.folder = folder

    def __call__(self, image: NamedImage, prediction: Prediction) -> None:
        """Draw an image."""
        from sadcl_core.plots.annotated import annotate

        assert prediction.attention is not None, "asked for"
        photo = open_image(image)
        photo.thumbnail((TAG_SIDE, TAG_SIDE))
        path = path_below(image, self.folder)
        with replacing(path.with_name(f"{path.name}.jpg"), "--annotate") as temporary:
            annotate(photo, prediction.labels, prediction.attention).save(temporary, "JPEG", quality=90)


@dataclass(frozen=True)
class Places:
    """The places beside a table that labels are to go to.

    Texts of `Tags` go beside the images or to `txt_dir`, pictures of `Annotated` and folders of `Sorted` to a folder each, and
    `keywords` is as for `Keywords`.
    """

    save_txt: bool = False
    txt_dir: Path | None = None
    append: bool = False
    underscore: bool = False
    annotate: Path | None = None
    sort: Path | None = None
    keywords: Literal["inside", "sidecar"] | None = None

    def __post_init__(self) -> None:
        """Raise a UsageError for options of texts without texts."""
        if (self.append or self.underscore) and not (self.save_txt or self.txt_dir):
            raise UsageError("--append and --underscore are for texts. Give --save-txt or --txt-dir as well.")


def open_sinks(
    places: Places,
    model: Predictor[Any],
    *,
    threshold: ThresholdRequest = None,
    topk: int | None = None,
    exclude: Sequence[str] = (),
    exist_ok: bool = False,
) -> list[Sink]:
    """Return the sinks of some places, for the labels that a model gives with these options of `predict_images`.

    Raises:
        UsageError: a folder is filled with something else.
        MachineError: exiftool is needed and not installed.
    """
    job: dict[str, Any] = {}
    if places.sort is not None or places.annotate is not None:
        values = [float(value) for value in model.choose_thresholds(threshold).values]
        job = {**model.settings, "threshold": values, "topk": topk, "exclude": list(exclude) or None}
    sinks: list[Sink] = []
    if places.save_txt or places.txt_dir is not None:
        sinks.append(Tags(places.txt_dir, append=places.append, underscore=places.underscore, exist_ok=exist_ok))
    if places.sort is not None:
        sinks.append(Sorted(places.sort, model.classes, job, exist_ok=exist_ok))
    if places.annotate is not None:
        sinks.append(Annotated(places.annotate, job, exist_ok=exist_ok))
    if places.keywords is not None:
        sinks.append(Keywords(places.keywords))
    return sinks


def path_below(image: NamedImage, folder: Path) -> Path:
    """Return a path in a folder for something that belongs to an image, by the path of the image in the working folder.

    An image from elsewhere gets a folder of its own where the working folder has an image of the same path.

    Example:
        >>> path_below(NamedImage("s3://bucket/a/b.jpg", b""), Path("out")).as_posix()
        'out/bucket/a/b.jpg'
    """
    name, here = image.name.partition("://")[2] or image.name, f"{os.getcwd()}/"  # noqa: PTH109 # as text
    if isinstance(image.source, Path):
        name = os.path.abspath(image.source)  # noqa: PTH100 # without what leads out of the folder
    parts = plain_path(name.removeprefix(here)).split("/")
    if not name.startswith(here) and os.path.exists("/".join(parts)):  # noqa: PTH110 # pathlib raises for long names
        parts.insert(0, _digest(image))
    return folder.joinpath(*(part if len(os.fsencode(part)) <= LONGEST else safe_name(printable_name(part)) for part in parts))


def _digest(image: NamedImage) -> str:
    """Return what tells an image from others of its name."""
    return hashlib.sha256(image.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def claim_folder(folder: Path, job: Mapping[str, Any], *, option: str, exist_ok: bool = False) -> None:
    """Make a folder for the results of a job, so that results of another one are not mixed with them.

    Raises:
        UsageError: the folder holds something else, or cannot be written to.
    """
    own = folder / JOB
    with explained(folder, option):
        folder.mkdir(parents=True, exist_ok=True)
        filled = next(folder.iterdir(), None) is not None
        before = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else None
    if filled and before != json.loads(json.dumps(job)) and not exist_ok:
        raise UsageError(f"{folder} holds something else, or labels of another model or threshold. Give {option} a new folder.")
    write_json(own, job, option)


def folder_names(labels: Sequence[str]) -> dict[str, str]:
    """Return a name of a folder for each label; no two are alike, whatever the letters' case.

    Example:
        >>> folder_names(["Sea lion", "sea-lion", ".."])
        {'Sea lion': 'Sea-lion-ab926aac', 'sea-lion': 'sea-lion-88c180ca', '..': 'label'}
    """
    names = {label: safe_name(label, otherwise="label") for label in labels}
    times = Counter(name.casefold() for name in names.values())
    return {
        label: name if times[name.casefold()] == 1 else f"{name}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
        for label, name in names.items()
    }
