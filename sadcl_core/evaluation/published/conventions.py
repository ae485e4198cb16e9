"""The AP and the CF1 that the rows of the printed tables report: papers differ, and the tables mix them.

CF1 is the harmonic mean of CP and CR, or the mean of the per-class F1 (macro-F1). The harmonic mean H is concave, so the mean of
H(P_k, R_k) is at most H(mean P, mean R): a row that prints CP, CR and a lower CF1 is macro, an equal one is harmonic. Rows
without CP and CR go by what their papers say. AP is interpolated (VOC after 2010) or not (scikit-learn).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from sadcl_core.evaluation.published.tables import Cell, Row, rows_of_method

ApConvention = Literal["interpolated", "non-interpolated", ""]
Cf1Meaning = Literal["harmonic", "macro", ""]

ROUNDING = 0.1001  # half a unit of CF1's last digit, and about as much from CP and CR
INTERPOLATED = ("SADCL", "SSGRL", "Query2Label")
NON_INTERPOLATED = (
    *("ML-GCN", "ASL", "MulCon", "ADD-GCN", "TDRG", "DSDL", "CPCL", "MCAR", "CSRA", "ML-Decoder", "C-Tran", "CCD-R101", "CPSD"),
)
RUN_BY_OTHERS = {"nuswide": ("ADD-GCN", "TDRG", "CCD-R101")}  # by SADCL's authors, so not measured as in their own papers
MACRO = ("SADCL", "SSGRL", "ResNet101", "ResNet-101")
HARMONIC = ("ML-GCN", "MulCon", "C-Tran", "Query2Label")  # TDRG on NUS-WIDE was run by SADCL's authors, so not by its own paper


def ap_convention(row: Row, data: str = "") -> ApConvention:
    """Return which AP a row reports: as it says, or as its method's paper does; empty when that is not known."""
    method, own = str(row["method"]), row.get("AP")
    if own is None and method not in RUN_BY_OTHERS.get(data, ()):
        own = "interpolated" if method in INTERPOLATED else "non-interpolated" if method in NON_INTERPOLATED else None
    return "interpolated" if own == "interpolated" else "non-interpolated" if own == "non-interpolated" else ""


def cf1_meaning(row: Row, column: str = "CF1") -> Cf1Meaning:
    """Return the definition of a row's `CF1` or `top3_CF1`, by its own CP and CR or else by its method; empty when not known."""
    prefix = column.removesuffix("CF1")
    precision, recall, printed = (_number(row.get(f"{prefix}{name}")) for name in ("CP", "CR", "CF1"))
    if printed is None:
        return ""
    if precision and recall:
        below = 2 * precision * recall / (precision + recall) - printed
        return "harmonic" if abs(below) <= ROUNDING else "macro" if below > 0 else ""
    method = str(row["method"]).partition(":")[0]  # a part of an ablation is its method's
    return "macro" if method in MACRO else "harmonic" if method in HARMONIC else ""


def published_figure(row: Row, data: str) -> str:
    """Return a published mAP and how it was measured, as far as that is known.

    Example:
        >>> published_figure({"method": "SADCL: SARL and S2S", "backbone": "ResNet-101", "mAP": 85.4}, "coco")
        '85.4 (SARL and S2S, ResNet-101)'
    """
    sizes = [f"{row[key]:g}" for key in ("train_size", "test_size") if isinstance(row.get(key), float)]
    about = [
        str(row["method"]).partition(": ")[2],
        str(row.get("backbone") or ""),
        f"{'/'.join(dict.fromkeys(sizes))} px" if sizes else "",
        ap_convention(row, data),
        "starred" if row.get("note") == "starred" else "",
    ]
    known = ", ".join(filter(None, about))
    return f"{row['mAP']} ({known})" if known else str(row["mAP"])


def published_figures(method: str, classes: Sequence[str]) -> tuple[str, str]:
    """Return the data set of whose printed table these are the classes, and what was published of a method on it; or nothing.

    Example:
        >>> from sadcl_core.data.formats import coco
        >>> published_figures("ml-gcn", coco.CLASSES)
        ('coco', '83.0 (448 px, non-interpolated)')
    """
    data, rows = rows_of_method(method, classes)
    return data, "; ".join(dict.fromkeys(published_figure(row, data) for row in rows))


def _number(cell: Cell) -> float | None:
    return cell if isinstance(cell, float) else None
