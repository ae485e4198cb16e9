"""Read a file of scores: NumPy arrays, delimited text with a header, or Parquet."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from scipy.special import expit

from sadcl_core.data import tables
from sadcl_core.data.formats.cells import find_values
from sadcl_core.data.formats.source import Reading
from sadcl_core.errors import DataError
from sadcl_core.runtime.device import system_memory
from sadcl_core.runtime.files import from_cell

AS_DETECTED = Reading()
SCORE_COLUMNS = ("score", "scores", "probability", "prob", "confidence", "value", "logit", "prediction")  # of the long form
TARGETS = ("targets", "labels")  # arrays of labels in an .npz file
MISSING = ("", "na", "n/a", "null", "none", "<na>")  # cells without a value
CELL = 8  # bytes of a number in memory
FLAGS = (-1, 0, 1)  # that arrays of labels hold
HEAD = 20  # rows that show what each column holds


@dataclass(frozen=True)
class ScoresFile:
    """The contents of a file of scores; shapes and names are checked, numbers are not.

    Attributes:
        path: of the file.
        values: (N, K) numbers as stored; an `.npy` file is mapped into memory, not read.
        logits: True if the numbers are logits, False if they are scores in 0..1.
        classes: K different names, or None.
        images: N different paths or names, or None.
        targets: (N, K) int8 of 1 (active), 0 (inactive) and -1 (unknown), or None.
        label_values: `present`, `absent` or `unknown` by each number that the labels hold.

    Raises:
        DataError: the shapes do not fit each other, or a name is missing or given twice.
    """

    path: Path
    values: npt.NDArray[Any]
    logits: bool = False
    classes: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None
    targets: npt.NDArray[np.int8] | None = None
    label_values: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or 0 in self.values.shape:
            raise DataError(
                f"{self.path} holds scores of shape {self.values.shape}. Give (images, classes), at least one of each."
            )
        if self.values.dtype.kind not in "fiub":
            raise DataError(f"{self.path} holds {self.values.dtype} instead of numbers. Save the scores as float32.")
        if self.targets is not None and self.targets.shape != self.values.shape:
            raise DataError(
                f"{self.path}: scores are {self.values.shape} and labels {self.targets.shape}. Both must be (images, classes)."
            )
        for what, names, size in (("image", self.images, len(self.values)), ("class", self.classes, self.values.shape[1])):
            if names is not None:
                self._check_names(what, names, size)

    def __len__(self) -> int:
        return len(self.values)

    def take(
        self, rows: npt.NDArray[np.int64] | None = None, columns: npt.NDArray[np.int64] | None = None
    ) -> npt.NDArray[np.floating[Any]]:
        """Return the scores of some images and classes.

        Args:
            rows: (n,) indices of images, in the order that is needed; all if None.
            columns: (k,) indices of classes, likewise.

        Returns:
            (n, k) float32 or float64 in 0..1: the stored array itself where nothing changes; of logits the sigmoid in float64.

        Raises:
            DataError: one of these scores is NaN or, unless they are logits, outside 0..1.
        """
        values = self.values if rows is None else self.values[rows]
        values = values if columns is None else values[:, columns]
        low, high = values.min(), values.max()  # NaN if there is one
        if not (low >= 0 and high <= 1) and (not self.logits or np.isnan(low)):
            valid = ~np.isnan(values) if self.logits else (values >= 0) & (values <= 1)
            row, column = (int(k) for k in np.unravel_index(int(valid.argmin()), valid.shape))
            image, label = row if rows is None else int(rows[row]), column if columns is None else int(columns[column])
            where = f"{self.path}, {f'image {self.images[image][:200]!r}' if self.images else f'row {image + 1}'}, "
            where += f"class {self.classes[label]!r}" if self.classes else f"column {label + 1}"
            problem = "missing or NaN" if np.isnan(values[row, column]) else f"{values[row, column]:g}, outside 0..1"
            raise DataError(f"{where}: the score is {problem}. Give every image and class a score in 0..1, or say --logits.")
        if self.logits:
            scores: npt.NDArray[np.floating[Any]] = expit(values, dtype=np.float64)
            return scores
        return values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, copy=False)

    def _check_names(self, what: str, names: tuple[str, ...], size: int) -> None:
        if len(names) != size:
            raise DataError(f"{self.path} has {len(names):,} {what} names where {size:,} are needed. Name each {what} once.")
        if "" in names:
            raise DataError(f"{self.path}: {what} {names.index('') + 1:,} has no name. Name every {what}.")
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise DataError(f"{self.path} has the {what} {name[:200]!r} twice. Leave one of them out.")


def is_scores_file(path: Path) -> bool:
    """Return True if a file has the name of a file of scores, and not of a model."""
    return path.suffix.lower() in READERS


def read_scores(path: Path, *, logits: bool = False, reading: Reading = AS_DETECTED) -> ScoresFile:
    r"""Read a file of scores, of whatever program.

    Args:
        path: `.npy` (N, K); `.npz` with `scores`, and perhaps `classes`, `images` and `targets`; `.csv`, `.tsv`, `.txt` or
            `.parquet` with a header, a column per class and perhaps one of images, or a row per image and class;
            `.parquet` also with one column of lists.
        logits: the numbers are logits, not scores in 0..1; `ScoresFile.take` returns their sigmoid.
        reading: what 0 and -1 in labels beside the scores mean.

    Raises:
        DataError: the file is missing, damaged, in none of these forms, holds pickled objects, or names something twice; or the
            labels may be meant in two ways.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scores.csv"
        >>> _ = path.write_text("image,cat,dog\na.jpg,0.9,0.2\nb.jpg,0.1,1\n")
        >>> file = read_scores(path)
        >>> file.classes, file.images
        (('cat', 'dog'), ('a.jpg', 'b.jpg'))
        >>> file.take()
        array([[0.9, 0.2],
               [0.1, 1. ]])
    """
    if not is_scores_file(path):
        raise DataError(f"{path} cannot be read as scores, for its name. Save them as {', '.join(READERS)}.")
    file = READERS[path.suffix.lower()](path, logits)
    return file if file.targets is None else replace(file, **_meaning(file.targets, path, reading, file.classes))


def read_label_array(path: Path, reading: Reading = AS_DETECTED) -> ScoresFile:
    """Read labels from an `.npy` file, or from an `.npz` file with `targets` or `labels`, and perhaps `classes` and `images`.

    Returns:
        A file without scores: `targets` (N, K) of 1, 0 and -1, the names of classes and images, and what each number meant.
        Where nothing is said, -1 is unknown beside 0, and absent where there is no 0, as in tables.

    Raises:
        DataError: the file is missing, damaged, holds pickled objects, or other labels than 1, 0 and -1; or these may be meant in
            two ways.
    """
    arrays = _read_arrays(path, TARGETS)
    labels = next(arrays[name] for name in TARGETS if name in arrays)
    classes = reading.classes or _names(arrays, "classes", path)
    file = ScoresFile(path, labels, classes=classes, images=_names(arrays, "images", path))
    return replace(file, **_meaning(labels, path, reading, classes))


def _read_numpy(path: Path, logits: bool) -> ScoresFile:
    arrays = _read_arrays(path, ("scores",))
    labels = next((arrays[name] for name in TARGETS if name in arrays), None)
    return ScoresFile(path, arrays["scores"], logits, _names(arrays, "classes", path), _names(arrays, "images", path), labels)


def _read_arrays(path: Path, needed: tuple[str, ...]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a NumPy file by name; a single array counts as the first of the needed ones."""
    with _damage_explained(path, "a NumPy file without pickled objects"):
        _refuse_large(path)
        if path.suffix.lower() == ".npy":
            return {needed[0]: np.lib.format.open_memmap(path, mode="r")}
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if len(stored.files) == 1:
                return {needed[0]: np.asarray(stored[stored.files[0]])}
            names = [name for name in ("scores", *TARGETS, "classes", "images") if name in stored.files]
            if not set(needed) & set(names):
                listed = ", ".join(map(repr, stored.files[:10])) or "nothing"
                raise DataError(f"{path} has no array {' or '.join(map(repr, needed))}, only {listed}. Rename it.")
            return {name: np.asarray(stored[name]) for name in names}


def _refuse_large(path: Path) -> None:
    """Raise a DataError for an archive that is larger than memory when it is unpacked."""
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > system_memory()[0]:
            raise DataError(f"{path} unpacks to {size:,} bytes, more than there is memory for. Save fewer images in a file.")


def _meaning(labels: npt.NDArray[Any], path: Path, reading: Reading, classes: Sequence[str] | None) -> dict[str, Any]:
    """Return targets and what each of their numbers means, as in a table of the same numbers."""
    wrong = labels[~np.isin(labels, FLAGS)] if labels.dtype.kind in "fiub" else labels.ravel()
    if wrong.size:
        raise DataError(f"{path} holds the label {wrong[0]}. Give 1 (present), 0 and -1 (absent or unknown) alone.")
    counts = Counter({str(flag): int((labels == flag).sum()) for flag in FLAGS})
    values = find_values(+counts, reading, str(path), classes or ())
    states = np.array([values.states[str(flag)] for flag in FLAGS], np.int8)
    return {"targets": states[labels.astype(np.int8) - FLAGS[0]], "label_values": values.meanings(+counts)}


def _names(arrays: dict[str, npt.NDArray[Any]], key: str, path: Path) -> tuple[str, ...] | None:
    """Return the texts of an array (n,) of `str` or UTF-8 `bytes`, or None if there is none."""
    values = arrays.get(key)
    if values is None:
        return None
    if values.ndim != 1 or values.dtype.kind not in "SU":
        raise DataError(f"{path}: {key!r} is {values.dtype} of shape {values.shape}. Save it as a list of texts.")
    with tables.readable(path, "UTF-8 names"):
        return tuple(value.decode() if isinstance(value, bytes) else value for value in values.tolist())


def _read_text(path: Path, logits: bool) -> ScoresFile:
    lines = [(number, line) for number, line in islice(tables.read_lines(path), HEAD) if line.strip()]
    if not lines:
        raise DataError(f"{path} has no row. Give a row of scores per image.")
    first, line = lines[0]
    parse = pacsv.ParseOptions(delimiter=max(",\t;", key=line.count))
    with _damage_explained(path, "a table of scores"):
        head = pacsv.read_csv(pa.py_buffer("".join(line for _, line in lines).encode()), parse_options=parse)
    header = head.column_names
    if not _are_names(header):
        raise DataError(f"{path} begins with scores ({', '.join(header)[:60]}). Give it a header that names the columns.")
    image = _image_column(head)
    with _damage_explained(path, "a table of scores"):
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(skip_rows=first - 1, encoding=tables.detect_encoding(path)),
            parse_options=parse,
            convert_options=pacsv.ConvertOptions(column_types={} if image is None else {header[image]: pa.string()}),
        )
    table = table.rename_columns([from_cell(name) for name in table.column_names])
    return _from_table(path, table, image, logits)


def _read_parquet(path: Path, logits: bool) -> ScoresFile:
    with _damage_explained(path, "Parquet"):
        file = pq.ParquetFile(path)
        cells = file.metadata.num_rows * file.metadata.num_columns
        if CELL * cells > system_memory()[0]:  # a few bytes may stand for a column of any length
            raise DataError(f"{path} has {cells:,} cells, more than there is memory for. Write the scores of fewer images.")
        table = _with_names(file.read())
        table.validate(full=True)  # or texts that are no UTF-8 raise later
        image = _image_column(table)
    return _from_table(path, table, image, logits)


def _with_names(table: pa.Table) -> pa.Table:
    """Return a table with names as texts: pandas and other writers store them as bytes, or as numbers with a dictionary."""
    for k, about in enumerate(table.schema):
        column = table.column(k)
        if pa.types.is_dictionary(about.type):
            column = column.cast(about.type.value_type)
        if _is_text(column.type):
            with suppress(pa.ArrowInvalid):  # of bytes that are no names
                column = column.cast(pa.binary()).cast(pa.string())
        table = table.set_column(k, about.name, column)
    return table


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    kinds = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(is_kind(kind) for is_kind in (*kinds, types.is_string, types.is_large_string, types.is_string_view))


def _from_table(path: Path, table: pa.Table, image: int | None, logits: bool) -> ScoresFile:
    """Return the scores in a column of lists, a row per image and class, or a column per class; skip text and row numbers."""
    if not table.num_rows:
        raise DataError(f"{path} has a header and no row. Give a row of scores per image.")
    header = [name.strip() for name in table.column_names]
    images = None if image is None else _texts(path, table.column(image))
    lists = [column for column in table.columns if _is_list_of_numbers(column.type)]
    if len(lists) > 1:
        raise DataError(f"{path} has several columns of lists of numbers. Leave that of the scores only.")
    if lists:
        with _damage_explained(path, "lists of one score per class"):
            return ScoresFile(path, np.stack(lists[0].to_numpy()), logits, images=images)
    scores = {
        k: values
        for k, name in enumerate(header)
        if k != image and name and not name.lower().startswith(("unnamed:", "__index_level_"))
        if (values := _numbers(path, name, table.column(k))) is not None
    }
    if not scores:
        raise DataError(f"{path} has no column of scores ({', '.join(header)[:200]}). Give a column of numbers per class.")
    label = tables.find_column(["" if k in scores or k == image else name for k, name in enumerate(header)], tables.LABEL_COLUMNS)
    score = tables.find_column([name if k in scores else "" for k, name in enumerate(header)], SCORE_COLUMNS)
    if images is not None and label is not None and score is not None:
        return _from_pairs(path, images, _texts(path, table.column(label)), scores[score], logits)
    return ScoresFile(path, np.stack(list(scores.values()), axis=1), logits, tuple(header[k] for k in scores), images)


def _from_pairs(path: Path, images: Sequence[str], labels: Sequence[str], scores: npt.NDArray[Any], logits: bool) -> ScoresFile:
    """Return a row per image of a table with a row per image and class; each pair must occur once."""
    rows, columns = ({name: k for k, name in enumerate(dict.fromkeys(names))} for names in (images, labels))
    places = np.array([rows[image] * len(columns) + columns[label] for image, label in zip(images, labels, strict=True)])
    counts = np.bincount(places, minlength=len(rows) * len(columns))
    wrong = int((counts != 1).argmax())
    if counts[wrong] != 1:
        image, label = list(rows)[wrong // len(columns)], list(columns)[wrong % len(columns)]
        raise DataError(
            f"{path}: image {image[:200]!r} has {counts[wrong]} scores of {label[:200]!r}. Give one score of every class, not "
            "only of the best."
        )
    values = np.empty_like(scores)
    values[places] = scores
    return ScoresFile(path, values.reshape(len(rows), len(columns)), logits, tuple(columns), tuple(rows))


def _image_column(table: pa.Table) -> int | None:
    """Return the column of images or None: text of a usual name, paths, whole numbers of a usual name, or text that is first."""
    cells, kinds = [column[:HEAD].to_pylist() for column in table.columns], table.schema.types
    text = [not (_is_numeric(kind) or pa.types.is_nested(kind)) for kind in kinds]
    numbers = [pa.types.is_integer(kind) and not {0, 1}.issuperset(column) for kind, column in zip(kinds, cells, strict=True)]
    by_text, by_number = (
        tables.find_column(
            [name if each else "" for name, each in zip(table.column_names, kind, strict=True)], tables.IMAGE_COLUMNS
        )
        for kind in (text, numbers)
    )
    if by_text is not None:
        return by_text
    by_path = next((k for k, column in enumerate(cells) if column and all(map(tables.looks_like_image, column))), by_number)
    if by_path is not None:
        return by_path
    return 0 if text[:1] == [True] and tables.find_column(table.column_names[:1], tables.LABEL_COLUMNS) is None else None


def _are_names(header: Sequence[str]) -> bool:
    """Return False if the first row holds scores; classes called 0, 1, 2, ... are names."""
    numbers = [cell.strip() for cell in header if _is_number(cell)]
    if any(map(tables.looks_like_image, header)):
        return False
    if len(numbers) < max(len(header) - 1, 1) or tables.find_column(header, tables.IMAGE_COLUMNS) is not None:
        return True
    if len(numbers) > 2 and numbers in ([str(k + first) for k in range(len(numbers))] for first in (0, 1)):
        return True
    return not header[0].strip() and all(number.isdecimal() for number in numbers)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        is_kind(kind) for is_kind in (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    )


def _is_list_of_numbers(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) and hasattr(kind, "value_type") and _is_numeric(kind.value_type)


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> npt.NDArray[Any] | None:
    """Return a column as floats, NaN where a cell is empty; None if it is text. Raise a DataError if it mixes both."""
    if not _is_numeric(column.type):
        cells = [text for cell in column[:HEAD].to_pylist() if (text := str(cell).strip().lower()) not in MISSING]
        numbers = sum(_is_number(cell.replace(",", ".", 1)) for cell in cells)
        if not cells or 2 * numbers < len(cells) or tables.find_column([name], tables.LABEL_COLUMNS) is not None:
            return None
    try:
        single = column.type in (pa.float16(), pa.float32())
        return np.asarray(column.cast(pa.float32() if single else pa.float64()).to_numpy())
    except pa.ArrowException as error:
        raise DataError(
            f"{path}, class {name!r}: not every cell is a number ({str(error)[:200]}). Mend it; decimals are written 0.5."
        ) from None


def _texts(path: Path, column: pa.ChunkedArray) -> tuple[str, ...]:
    with _damage_explained(path, "a table of scores"):
        values = column.cast(pa.string()).to_pylist()
    if None in values:
        raise DataError(f"{path}, row {values.index(None) + 1} names no image or class. Fill it in, or leave the row out.")
    return tuple(from_cell(str(value).strip()) for value in values)


@contextmanager
def _damage_explained(path: Path, kind: str) -> Iterator[None]:
    """Raise a DataError of one sentence for whatever NumPy, zip and Arrow raise on a damaged file."""
    with tables.readable(path, kind):
        try:
            yield
        except Exception as error:
            if isinstance(error, DataError) or getattr(error, "errno", None) is not None:  # of the disk; Arrow's have no number
                raise
            raise ValueError(" ".join(str(error).split())) from None


READERS: dict[str, Callable[[Path, bool], ScoresFile]] = {
    ".npy": _read_numpy,
    ".npz": _read_numpy,
    ".csv": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".parquet": _read_parquet,
}
