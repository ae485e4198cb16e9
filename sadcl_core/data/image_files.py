"""Open image files without decoding them, and refuse those that take minutes or all memory to open or to decode."""

from __future__ import annotations

import importlib
import io
import logging
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import II, MM, OPEN_INFO, ImageFileDirectory_v2

from sadcl_core.runtime.files import regular

# as an error, for the whole process: filters cannot be set for one thread, and images are checked by several; where another
# thread has put its own filters in place for a moment, `check_decodable` refuses
warnings.simplefilter("error", Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # of damaged EXIF in images that can be read
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # of images that are refused, it writes to stderr as well
Image.preinit()
for plugin in ("WebPImagePlugin", "AvifImagePlugin", "Jpeg2KImagePlugin"):
    with suppress(ImportError):
        importlib.import_module(f"PIL.{plugin}")
with suppress(ImportError):  # where it is installed
    importlib.import_module("pillow_heif").register_heif_opener()

for order, letter in ((II, "L"), (MM, "B")):  # TIFF of three or four bands that do not say they are colours, as GDAL writes it
    for bands, mode in ((3, "RGB"), (4, "RGBX")):
        for extra in ((), (0,) * (bands - 1)):
            OPEN_INFO.setdefault((order, 1, (1,), 1, (8,) * bands, extra), ("RGB", mode))
            OPEN_INFO.setdefault((order, 1, (1,), 1, (16,) * bands, extra), ("RGB", f"{mode};16{letter}"))

MAX_BYTES = 1 << 29  # of a file
KINDS = tuple(  # not all of Pillow's, which runs programs for some
    kind for kind in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF", "PPM", "JPEG2000") if kind in Image.OPEN
)
# whatever decoders raise on damaged files
BROKEN = (
    *(OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError),
    *(RuntimeError, SyntaxError, EOFError, MemoryError, struct.error),
)
PARTS = 1 << 14  # pieces that are read of a file until its pixels begin; a segment of a JPEG takes four
CHUNKS = 1 << 22  # pieces that are read after that; a chunk of a PNG takes three, with a million pixels in the largest
JPEG = b"\xff\xd8"
JPEG_HEAD = 1 << 24  # bytes of a JPEG before its pixels; Pillow copies its EXIF with every segment of it
PYTHON_PIXELS = 1 << 24  # of an image that is decoded in Python, which takes a microsecond for each
SCANS = 100  # of a JPEG, each of which goes through all pixels; progressive ones have about ten
SCAN, END = b"\xff\xda", b"\xff\xd9"
MARKER = re.compile(b"\xff[^\x00\x01\xff\xd0-\xd7]")  # in a JPEG, of all but those without a length
STRIPS = 1 << 16  # of a TIFF
BIG = 43  # version of BigTIFF
OFFSETS = (273, 324)  # TIFF tags: where strips and tiles lie
BYTES = (1, 2, 6, 7)  # TIFF types of one byte, which Pillow does not take apart
NUMBERS = 1 << 20  # bytes of a TIFF tag of numbers


class _Metered:
    """A file for Pillow, which may read so many pieces and bytes of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read
        file.seek(0)
        start, size = file.read(len(JPEG)), file.seek(0, io.SEEK_END)
        file.seek(0)
        self.allow(PARTS, JPEG_HEAD if start == JPEG else 2 * size + io.DEFAULT_BUFFER_SIZE)  # no part twice

    def allow(self, pieces: int, size: float) -> None:
        """Let so many pieces and bytes be read from here on."""
        self.pieces, self.size = pieces, size

    def read(self, size: int = -1) -> bytes:
        """Return what is next in the file.

        Raises:
            ValueError: it was read too often.
        """
        content = self._read(size)
        self.pieces -= 1
        self.size -= len(content)
        if self.pieces < 0 or self.size < 0:
            raise ValueError("more segments, chunks or tags than a photograph has")
        return content


@contextmanager
def identify(source: Path | bytes) -> Iterator[Image.Image]:
    """Open an image, a path or the bytes of a file, without decoding it; it has to be of a kind that photographs are kept in.

    Raises:
        UnidentifiedImageError: it is of another kind.
        ValueError: it has so many segments, chunks, tags or strips that to go through them takes minutes.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new("L", (4, 2)).save(file, "PNG")
        >>> with identify(file.getvalue()) as image:
        ...     image.size
        (4, 2)
    """
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        sizes: dict[int, int] = {}
        if file.read(2) in (b"II", b"MM"):
            with suppress(*BROKEN):  # Image.open says what is wrong
                tags = tiff_tags(file)
                sizes = {tag: len(data) for tag, data in tags._tagdata.items() if tags.tagtype[tag] not in BYTES}
        if any(size > (4 * STRIPS if tag in OFFSETS else NUMBERS) for tag, size in sizes.items()):
            raise ValueError("more strips, or numbers in a tag, than a photograph has")
        metered = _Metered(file)
        with Image.open(metered, formats=KINDS) as image:  # type: ignore[arg-type]
            metered.allow(PARTS + 4 * image.width * image.height if _in_python(image) else CHUNKS, np.inf)
            yield image


def tiff_tags(file: BinaryIO) -> ImageFileDirectory_v2:
    """Return the tags of a TIFF, none of them decoded yet; whatever is in BROKEN may be raised."""
    metered = _Metered(file)
    header = metered.read(8)
    tags = ImageFileDirectory_v2(header if header[2] != BIG else header + metered.read(8))
    metered.seek(tags.next)
    tags.load(metered)  # type: ignore[arg-type] # it reads, seeks and tells
    return tags


def check_decodable(image: Image.Image) -> None:
    """Refuse an image, opened and not decoded yet, that would take minutes or all memory.

    Raises:
        DecompressionBombError: it has more pixels than PIL allows.
        ValueError: a JPEG has more scans than any photograph, or a file of another kind more pixels than Python can decode.

    Example:
        >>> check_decodable(Image.new("L", (4, 2)))
    """
    pixels = image.width * image.height
    if pixels > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise Image.DecompressionBombError
    if pixels > PYTHON_PIXELS and _in_python(image):
        raise ValueError(f"more than {PYTHON_PIXELS:,} pixels in a form of {image.format} that is slow to read: save it as PNG")
    file = image.fp if isinstance(image, JpegImageFile) else None
    if file is not None:
        file.seek(0)
        _check_scans(file.read())


def _in_python(image: Image.Image) -> bool:
    """Return True for the forms of BMP and PPM that Pillow has no decoder in C for."""
    return any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ()))


def _check_scans(content: bytes) -> None:
    """Raise ValueError for a JPEG whose scans would take minutes."""
    pairs = (np.frombuffer(content, np.uint16, (len(content) - start) // 2, start) for start in (0, 1))
    # also in what else the file holds; bytes.count takes five times as long
    if sum(np.count_nonzero(numbers == np.frombuffer(SCAN, np.uint16)) for numbers in pairs) <= SCANS:
        return
    place, scans = 2, 0
    for _ in range(PARTS):
        marker = MARKER.search(content, place)
        if marker is None or marker[0] == END:
            return
        scans += marker[0] == SCAN
        if scans > SCANS:
            break
        place = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2])  # the length of what follows
    raise ValueError("more scans than a photograph has")


def image_file(path: Path) -> Path:
    """Return a path that may be decoded.

    Raises:
        OSError: it is not a regular file, or larger than any photograph; `explained_image` says so.
    """
    return regular(path, most=MAX_BYTES)
