"""Places of vectors in the plane, by t-SNE or UMAP."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sadcl_core.errors import MachineError, UsageError
from sadcl_core.inference.embedding_index import ARRAYS, IMAGES, LABELS
from sadcl_core.runtime.files import replacing
from sadcl_core.runtime.packages import is_installed

Method = Literal["tsne", "umap"]
LEAST = 3  # vectors, of which a map can be made
MOST = 20_000  # vectors that t-SNE places in minutes


def two_dimensions(vectors: npt.NDArray[np.float32], *, method: Method = "tsne", seed: int = 0) -> npt.NDArray[np.float64]:
    """Place vectors (n, P) in the plane (n, 2) by t-SNE (van der Maaten and Hinton, JMLR 2008) or UMAP (McInnes et al., 2018).

    They are compared by cosine. The same seed gives the same map.

    Raises:
        ValueError: there are fewer than 3 vectors.
        MachineError: umap-learn is needed and not installed.

    Example:
        >>> two_dimensions(np.eye(4, 8, dtype=np.float32)).shape
        (4, 2)
    """
    if len(vectors) < LEAST:
        raise ValueError(f"a map needs at least {LEAST} vectors, got {len(vectors)}")
    if method == "umap":
        return _umap(vectors, seed)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(vectors) - 1) / 3)
    tsne = TSNE(n_components=2, perplexity=perplexity, metric="cosine", init="pca", random_state=seed)
    return np.asarray(tsne.fit_transform(vectors), dtype=np.float64)


def require_umap() -> None:
    """Raise a MachineError if umap-learn is not installed."""
    if not is_installed("umap"):
        raise MachineError("UMAP needs the package umap-learn. Install it: pip install 'sadcl[umap]', or take tsne.")


def check_rows(rows: int, method: Method | None) -> None:
    """Raise a UsageError if there are more rows than a method places in the plane within minutes.

    Example:
        >>> check_rows(20_000, "tsne"), check_rows(50_000, "umap")
        (None, None)
    """
    if method == "tsne" and rows > MOST:
        raise UsageError(
            f"t-SNE of {rows:,} rows takes hours; {MOST:,} are the most. Embed fewer images with --limit, or take "
            "--coordinates umap."
        )


def _umap(vectors: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float64]:
    require_umap()
    import warnings

    import torch

    threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed leaves it one thread
        from umap import UMAP

        neighbours = min(15, len(vectors) - 1)
        init = "spectral" if len(vectors) > neighbours + 1 else "random"
        places = UMAP(n_neighbors=neighbours, metric="cosine", init=init, random_state=seed).fit_transform(vectors)
    torch.set_num_threads(threads)  # numba gives OpenMP, which torch uses too, as many as there are processors
    return np.asarray(places, dtype=np.float64)


def add_coordinates(folder: Path, *, method: Method = "tsne", seed: int = 0) -> None:
    """Add columns x and y, the places of the vectors in the plane, to both tables of an index; NaN of fewer than 3 vectors.

    Raises:
        UsageError: a table has more rows than t-SNE places in minutes; no table is changed.
        MachineError: umap-learn is needed and not installed.
    """
    check_rows(max(pq.read_metadata(folder / name).num_rows for name in (LABELS, IMAGES)), method)
    for name in (LABELS, IMAGES):
        vectors = np.load(folder / ARRAYS[name])
        places = np.full((len(vectors), 2), np.nan)
        if len(vectors) >= LEAST:
            places = two_dimensions(vectors, method=method, seed=seed)
        with pq.ParquetFile(folder / name) as table, replacing(folder / name) as temporary:
            schema = table.schema_arrow
            schema = schema.append(pa.field("x", pa.float64())).append(pa.field("y", pa.float64()))
            row = 0
            with pq.ParquetWriter(temporary, schema) as writer:
                for batch in table.iter_batches():
                    x, y = places[row : row + batch.num_rows].T
                    row += batch.num_rows
                    writer.write_table(pa.Table.from_arrays([*batch.columns, pa.array(x), pa.array(y)], schema=schema))
