"""Checkpoints of other programs: a file for each published format, and what turns one into a model file of this project.

A format is a module with `NAME`, `METHOD`, `recognises(tensors, channels)` and `convert(tensors, channels)`, and a row of FORMATS
in `sadcl_core.runs.imports.import_checkpoint`. It knows names and shapes alone; the backbone is taken out before it is asked.
"""
