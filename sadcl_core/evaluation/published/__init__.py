"""Printed result tables, to put one's own row beside."""

from sadcl_core.evaluation.published.conventions import ap_convention, cf1_meaning
from sadcl_core.evaluation.published.tables import CLASSES, COLUMNS, Cell, Row, Table, published_table, read_table

__all__ = ["CLASSES", "COLUMNS", "Cell", "Row", "Table", "ap_convention", "cf1_meaning", "published_table", "read_table"]
