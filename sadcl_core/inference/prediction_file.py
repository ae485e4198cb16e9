"""Predictions of any number of images as one file, written chunk by chunk so that a killed process can go on.

    .labels.parquet.parts/     job.json: what was predicted with what   000000.parquet ...: finished chunks
    labels.parquet             appears when all are done, and the folder goes

A chunk holds whole batches. So whoever goes on computes the same batches again, and the file is the same byte for byte.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from sadcl_core.data.images import NamedImage
from sadcl_core.data.prepare.export import label_cell
from sadcl_core.errors import DataError, UsageError
from sadcl_core.inference.predict import Prediction, printable_name
from sadcl_core.runtime.files import explained, replacing, to_cell, write_json
from sadcl_core.runtime.words import counted

CHUNK = 1024  # images, at least, between two times at which a killed process can go on
SCHEMA_VERSION = 1
IMAGES = ("images", "recursive", "column", "part")  # of a job: which images
DIFFERENCES = {**dict.fromkeys(IMAGES, "other images"), "model": "another model", "set_of_results": "other places for labels"}
KEY = b"sadcl"  # of the description in the metadata of a Parquet file


@dataclass(eq=False)
class PredictionFile:
    """A file of predictions that is being written; use it in a `with` statement, which locks it.

    Attributes:
        path: of the file; its suffix is one of WRITERS.
        classes: of the model.
        job: what the predictions depend on, as for JSON; a file that was begun with another job is not gone on with.
        batch_size: of the predictions.
        all_scores: write the score of every class.
        features: write the features of the image and of its labels.
        chunk: images of a chunk, rounded up to whole batches.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels.csv"
        >>> with PredictionFile(path, ("cat", "dog"), {"model": "1"}, batch_size=2) as file:
        ...     file.skip(iter(()))
        ...     file.add(Prediction("a.jpg", (("cat", 0.75),), np.float32([0.75, 0.25])))
        ...     file.finish()
        (0, 0)
        >>> print(path.read_text().strip())
        image,labels,probabilities,error
        a.jpg,cat,0.75,
    """

    path: Path
    classes: tuple[str, ...]
    job: Mapping[str, Any]
    batch_size: int
    all_scores: bool = False
    features: bool = False
    chunk: int = CHUNK
    _rows: list[Prediction] = field(default_factory=list, init=False)
    _count: int = field(default=0, init=False)  # finished chunks

    @property
    def folder(self) -> Path:
        """Return where the chunks are until all are done."""
        return self.path.with_name(f".{self.path.name}.parts")

    def __enter__(self) -> PredictionFile:
        """Lock the file.

        Raises:
            UsageError: another process writes it, it was begun with other options, or its folder cannot be written to.
        """
        with explained(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.folder / "lock")
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise UsageError(f"Another process writes {self.path}. Wait for it, or choose another file with -o.") from None
        self._check_job()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Unlock the file; finished chunks stay for the next process."""
        self._count_chunks()
        if isinstance(error, KeyboardInterrupt):
            kept = self._count * self._chunk_size
            error.add_note(f"{counted(kept, 'image')} kept; the same command goes on." if kept else "No prediction is kept yet.")
        if not self._count:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def _check_job(self) -> None:
        path = self.folder / "job.json"
        own = {"all_scores": self.all_scores, "features": self.features}
        job = json.loads(json.dumps({**self.job, "chunk": self._chunk_size, **own}))  # as it is read
        self._count_chunks()
        if self._count and path.is_file():
            begun = json.loads(path.read_text(encoding="utf-8"))
            other = next((name for name in {**job, **begun} if job.get(name) != begun.get(name)), None)
            if other is not None:
                raise UsageError(
                    f"{self.folder.name} was begun with {DIFFERENCES.get(other, 'other options')}. "
                    f"Give the command that began it to go on, or remove {self.folder} to begin again."
                )
        write_json(path, job)

    def _count_chunks(self) -> None:
        """Count the chunks on the disk: a signal may come between a file and its number."""
        while (self.folder / f"{self._count:06d}.parquet").is_file():
            self._count += 1

    @property
    def _chunk_size(self) -> int:
        return -(-self.chunk // self.batch_size) * self.batch_size

    def skip(self, images: Iterator[NamedImage]) -> tuple[int, int]:
        """Take the images from a stream that are done already; return how many, and how many of them could not be read.

        Raises:
            DataError: the images that are done are not those of the stream.
        """
        rows = errors = 0
        for chunk in self._chunks(["image", "error"]):
            errors += chunk.num_rows - chunk["error"].null_count
            for name in chunk["image"].to_pylist():
                image = next(images, None)
                if image is None or printable_name(image.name) != name:
                    now = "no image" if image is None else printable_name(image.name)
                    raise DataError(
                        f"Image {rows + 1:,} is {now} and was {name} when {self.path} was begun. "
                        f"Give the same images to go on, or remove {self.folder} to begin again."
                    )
                rows += 1
        return rows, errors

    def add(self, prediction: Prediction) -> None:
        """Add a prediction; a chunk that is full is written."""
        self._rows.append(prediction)
        if len(self._rows) == self._chunk_size:
            self._write_chunk()

    def _write_chunk(self) -> None:
        if self._rows:
            with replacing(self.folder / f"{self._count:06d}.parquet") as temporary:
                pq.write_table(self._table(self._rows), temporary)
            self._count += 1
            self._rows = []

    def _table(self, rows: Sequence[Prediction]) -> pa.Table:
        """Return predictions as a table."""
        columns: dict[str, pa.Array] = {
            "image": pa.array([row.name for row in rows], pa.string()),
            "labels": pa.array([[name for name, _ in row.labels] for row in rows], pa.list_(pa.string())),
            "probabilities": pa.array([[score for _, score in row.labels] for row in rows], pa.list_(pa.float32())),
            "error": pa.array([row.error or None for row in rows], pa.string()),
        }
        if self.all_scores:
            vector = pa.list_(pa.float32(), len(self.classes))
            columns["scores"] = pa.array([None if row.error else row.scores for row in rows], vector)
        if self.features:
            columns["feature"] = pa.array([row.feature for row in rows], pa.list_(pa.float32()))
            embeddings = [None if row.embeddings is None else list(row.embeddings) for row in rows]
            columns["embeddings"] = pa.array(embeddings, pa.list_(pa.list_(pa.float32())))
        return pa.table(columns)

    def _chunks(self, columns: list[str] | None = None) -> Iterator[pa.Table]:
        for number in range(self._count):
            try:
                yield pq.read_table(self.folder / f"{number:06d}.parquet", columns=columns)
            except (OSError, pa.ArrowException) as error:
                raise DataError(f"{self.folder} is damaged ({str(error)[:100]}). Remove it to begin again.") from None

    def finish(self) -> None:
        """Write the file from its chunks, in one piece."""
        self._write_chunk()
        with replacing(self.path) as temporary:
            WRITERS[self.path.suffix.lower()](self, temporary)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write_parquet(self, path: Path) -> None:
        description = {"schema_version": SCHEMA_VERSION, "classes": self.classes, **self.job}
        metadata = {KEY: json.dumps(description, ensure_ascii=False).encode()}
        length = self._feature_length() if self.features else None
        writer: pq.ParquetWriter | None = None
        try:
            for chunk in self._chunks():
                table = _with_length(chunk, length).replace_schema_metadata(metadata)
                writer = writer or pq.ParquetWriter(path, table.schema)
                writer.write_table(table, row_group_size=self._chunk_size)
        finally:
            if writer is not None:
                writer.close()

    def _feature_length(self) -> int | None:
        """Return the length of features, None if no image could be read; indices of neighbours want vectors of a known length."""
        features = (chunk["feature"].drop_null()[:1].to_pylist() for chunk in self._chunks(["feature"]))
        return next((len(first[0]) for first in features if first), None)

    def _write_jsonl(self, path: Path) -> None:
        with path.open("w", encoding="utf-8") as file:
            for row in self._read_rows():
                document = row.as_json(self.classes if self.all_scores else ())
                file.write(json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n")

    def _write_csv(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as file:
            write_csv(file, self._read_rows(), self.classes, all_scores=self.all_scores)

    def _read_rows(self) -> Iterator[Prediction]:
        for chunk in self._chunks():
            for row in chunk.to_pylist():
                labels = tuple(zip(row["labels"], row["probabilities"], strict=True))
                yield Prediction(row["image"], labels, np.array(row.get("scores") or [], np.float32), row["error"] or "")


WRITERS: dict[str, Callable[[PredictionFile, Path], None]] = {
    ".parquet": PredictionFile._write_parquet,
    ".jsonl": PredictionFile._write_jsonl,
    ".csv": PredictionFile._write_csv,
}


def check_target(path: Path, *, exist_ok: bool = False, embed: bool = False) -> None:
    """Raise if predictions, with features if they are to `embed`, cannot be written to a file of this name.

    Raises:
        UsageError: the name ends otherwise, is a folder or an address, or the file is there already.
    """
    if path.suffix.lower() not in WRITERS:
        raise UsageError(f"{path} does not end in {', '.join(WRITERS)}. Give -o such a name.")
    if "://" in str(path) or ":/" in str(path):
        raise UsageError(f"{path} is an address. Give -o a file on the disk, and copy it there.")
    if embed and path.suffix.lower() != ".parquet":
        raise UsageError(f"{path} cannot hold features. Give -o a name in .parquet.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder. Give -o the name of a file.")
    if path.exists() and not exist_ok:
        raise UsageError(f"{path} is there already. Choose another file with -o, or give --exist-ok to write over it.")


def write_csv(file: IO[str], rows: Iterator[Prediction], classes: Sequence[str], *, all_scores: bool = False) -> None:
    """Write predictions as a table of text into a file opened with `newline=""`; no cell is computed by a spreadsheet."""
    writer = csv.writer(file, lineterminator="\n")
    join = label_cell(classes)
    writer.writerow(["image", "labels", "probabilities", "error", *map(to_cell, classes if all_scores else ())])
    for row in rows:
        names, scores = [name for name, _ in row.labels], "|".join(f"{score:.6g}" for _, score in row.labels)
        every = ([""] * len(classes) if row.error else [f"{score:.6g}" for score in row.scores]) if all_scores else []
        writer.writerow([to_cell(row.name), to_cell(join(names)), scores, to_cell(row.error), *every])


def _with_length(table: pa.Table, length: int | None) -> pa.Table:
    """Return a chunk with features of a fixed length."""
    if length is None:
        return table
    index = table.column_names.index("feature")
    return table.set_column(index, "feature", table["feature"].combine_chunks().cast(pa.list_(pa.float32(), length)))
