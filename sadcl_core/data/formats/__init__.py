"""Readers of label files, one per file. Nothing is changed on the disk.

A reader is a module with

    SUFFIXES                   of its label files; none when the format is a whole folder
    recognises(path) -> bool   of a label file or a folder
    read(source) -> Manifest

and, if need be, PREFERRED (how the names of label files begin that are chosen among several), DEEPER (patterns of label files
further below), DESCRIPTIONS (suffixes of a file that stands for the whole folder), SUFFIX (of a file for each image, which
`recognises` takes in place of a folder), PARTS (several files may belong to one split), MOST (label files in a folder, where many
are usual) and OPTIONS (fields of `Reading` that are for some formats alone). Most formats come down to a list of images with
names: `read` then is `listing.read_listing` with a function that parses a file, or `annotation_files.read_annotations` with one
that parses the file of an image. What `recognises` raises means that it does not.
A new format is a new file here, a row in FORMATS and a test file.
"""

FORMATS: dict[str, str] = {  # in the order in which a folder is looked at
    "voc": "sadcl_core.data.formats.voc",
    "voc_lists": "sadcl_core.data.formats.voc_lists",
    "nuswide": "sadcl_core.data.formats.nuswide",
    "vg500": "sadcl_core.data.formats.vg500",
    "coco": "sadcl_core.data.formats.coco",
    "openmmlab": "sadcl_core.data.formats.openmmlab",
    "datumaro": "sadcl_core.data.formats.datumaro",
    "fiftyone": "sadcl_core.data.formats.fiftyone",
    "via": "sadcl_core.data.formats.via",
    "cvat": "sadcl_core.data.formats.cvat",
    "sagemaker": "sadcl_core.data.formats.sagemaker",
    "huggingface": "sadcl_core.data.formats.huggingface",
    "webdataset": "sadcl_core.data.formats.webdataset",
    "celeba": "sadcl_core.data.formats.celeba",
    "deepfashion": "sadcl_core.data.formats.deepfashion",
    "pedestrians": "sadcl_core.data.formats.pedestrians",
    "ucmerced": "sadcl_core.data.formats.ucmerced",
    "bigearthnet": "sadcl_core.data.formats.bigearthnet",
    "bigearthnet_v1": "sadcl_core.data.formats.bigearthnet_v1",
    "imaterialist": "sadcl_core.data.formats.imaterialist",
    "class_lists": "sadcl_core.data.formats.class_lists",
    "hpa": "sadcl_core.data.formats.hpa",
    "scenes": "sadcl_core.data.formats.scenes",
    "yaml": "sadcl_core.data.formats.yaml_lists",
    "labelstudio": "sadcl_core.data.formats.labelstudio",
    "labelimg": "sadcl_core.data.formats.labelimg",
    "labelme": "sadcl_core.data.formats.labelme",
    "supervisely": "sadcl_core.data.formats.supervisely",
    "yolo": "sadcl_core.data.formats.yolo",
    "jsonl": "sadcl_core.data.formats.jsonl",
    "csv": "sadcl_core.data.formats.table",
    "captions": "sadcl_core.data.formats.captions",
}

DATASETS: dict[str, str] = {  # names of public data sets, and their format
    "digits": "digits",
    "coco": "coco",
    "coco2014": "coco",
    "coco2017": "coco",
    "voc2007": "voc",
    "voc2012": "voc",
    "nuswide": "nuswide",
    "vg500": "vg500",
}

BUILT_IN: dict[str, str] = {"digits": "sadcl_core.data.formats.digits"}  # drawn by their reader; the others must be on disk
