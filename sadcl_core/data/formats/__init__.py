"""Readers of label files, one per file. Each is `read(folder, name) -> Manifest` and never touches what it reads.

A new format is a new file here, a row in FORMATS and a test file.
"""

FORMATS: dict[str, str] = {
    "digits": "sadcl_core.data.formats.digits:read",
    "coco": "sadcl_core.data.formats.coco:read",
    "coco2014": "sadcl_core.data.formats.coco:read",
    "coco2017": "sadcl_core.data.formats.coco:read",
    "voc2007": "sadcl_core.data.formats.voc:read",
    "voc2012": "sadcl_core.data.formats.voc:read",
}

BUILT_IN = frozenset({"digits"})  # drawn where they are asked for; the others must be there
