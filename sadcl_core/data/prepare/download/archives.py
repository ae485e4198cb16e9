"""Which archives make up each data set that can be downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from sadcl_core.errors import UsageError


@dataclass(frozen=True)
class Archive:
    """A file to fetch and unpack.

    Attributes:
        url: where it is; the last part is its name.
        md5: the checksum of the whole file.
        makes: paths that are there once it has been unpacked, each with something in it.
        roots: folders in which `makes` is looked for: the one it unpacks to, then others that the reader accepts as well.
    """

    url: str
    md5: str
    makes: tuple[str, ...]
    roots: tuple[str, ...] = ("",)

    @property
    def name(self) -> str:
        """The file name."""
        return urlsplit(self.url).path.rpartition("/")[2]


def _coco(year: int, *, annotations: str, val: str, train: str) -> tuple[Archive, ...]:
    """The archives of a year, from the MD5 of each, in the order in which they are fetched."""
    url = "http://images.cocodataset.org"
    labels = tuple(f"annotations/instances_{split}{year}.json" for split in ("train", "val"))
    return (
        Archive(f"{url}/annotations/annotations_trainval{year}.zip", annotations, makes=labels),
        Archive(f"{url}/zips/val{year}.zip", val, makes=(f"val{year}",), roots=("", "images")),
        Archive(f"{url}/zips/train{year}.zip", train, makes=(f"train{year}",), roots=("", "images")),
    )


COCO_2014 = _coco(
    2014,
    annotations="0a379cfc70b0e71301e0f377548639bd",
    val="a3d79f5ed8d289b7a7554ce06a5782b3",
    train="0da8c0bd3d6becc4dcb32757491aca88",
)
COCO_2017 = _coco(
    2017,
    annotations="f4bbac642086de4f52a3fdda2de5fa2c",
    val="442b8da7639aecaf257c1dceb8ba8c80",
    train="cced6f7f71b7629ddf16f17bbcfab6b2",
)
ARCHIVES: dict[str, tuple[Archive, ...]] = {"coco": COCO_2014, "coco2014": COCO_2014, "coco2017": COCO_2017}

# torchvision's name of each archive (it knows url and checksum), and the image set that only this one has
VOC = {"voc2007": (("2007", "trainval"), ("2007-test", "test")), "voc2012": (("2012", "trainval"),)}


def downloadable() -> list[str]:
    """The names `download` knows, in order."""
    return sorted({*VOC, *ARCHIVES})


def archives_of(name: str) -> tuple[Archive, ...]:
    """The archives that make up a data set; those of VOC as torchvision lists them.

    Raises:
        UsageError: it cannot be downloaded.
    """
    if name in ARCHIVES:
        return ARCHIVES[name]
    if name not in VOC:
        raise UsageError(f"{name} cannot be downloaded by this program. It can download: {', '.join(downloadable())}.")
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    devkit = name.upper()
    return tuple(
        Archive(
            url=DATASET_YEAR_DICT[key]["url"],
            md5=DATASET_YEAR_DICT[key]["md5"],
            makes=(f"ImageSets/Main/{image_set}.txt", "Annotations", "JPEGImages"),
            roots=(f"VOCdevkit/{devkit}", devkit, ""),
        )
        for key, image_set in VOC[name]
    )
