"""From scores to numbers, tables and pages."""
