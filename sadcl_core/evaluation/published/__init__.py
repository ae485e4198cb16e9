"""Printed result tables, to put one's own row beside."""

from sadcl_core.evaluation.published.comparable import YES, backbone_of, comparable
from sadcl_core.evaluation.published.conventions import ap_convention, cf1_meaning, published_figure, published_figures
from sadcl_core.evaluation.published.tables import CLASSES, COLUMNS, Cell, Row, Table, other_rows, published_table, read_table

__all__ = [
    "CLASSES",
    "COLUMNS",
    "YES",
    "Cell",
    "Row",
    "Table",
    "ap_convention",
    "backbone_of",
    "cf1_meaning",
    "comparable",
    "other_rows",
    "published_figure",
    "published_figures",
    "published_table",
    "read_table",
]
