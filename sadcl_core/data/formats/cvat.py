"""CVAT for images: the XML file that CVAT exports.

    annotations.xml   <annotations><meta>...<label><name>cat</name></label>...</meta>
                        <image id="0" name="a.jpg" subset="train" width="64" height="64">
                          <tag label="cat"/> <box label="dog" xtl="1" ytl="2" xbr="30" ybr="20"/>
                        </image></annotations>

Every tag and shape counts. Classes are those that the task lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import ParseError, iterparse

from sadcl_core.data.formats.listing import Entry, Listing, read_listing
from sadcl_core.data.formats.source import split_name
from sadcl_core.errors import DataError

SUFFIXES = (".xml",)
HEAD = 4096  # bytes in which the file begins


def recognises(path: Path) -> bool:
    """Return True if a file begins as CVAT's do."""
    with path.open("rb") as file:
        return b"<annotations" in file.read(HEAD)


def _listing(path: Path) -> Listing:
    classes: list[str] = []
    entries: list[Entry] = []
    try:
        for _, element in iterparse(path, forbid_dtd=True):
            if element.tag == "track":
                raise DataError(f"{path} is CVAT's export of a video. Export the task as CVAT for images.")
            if element.tag == "label" and (name := element.findtext("name")):
                classes.append(name.strip())
            if element.tag == "image":
                names = [shape.attrib["label"] for shape in element if "label" in shape.attrib]
                split = split_name(element.attrib.get("subset", ""))
                entries.append(Entry(element.attrib["name"], names, split=split, boxes=[*_boxes(element)]))
                element.clear()
    except DefusedXmlException:
        raise DataError(f"{path} declares XML entities or a document type, which CVAT never does. Export it again.") from None
    except ParseError as error:
        raise DataError(f"{path} cannot be read as XML ({error}). Export it again.") from None
    return Listing([*dict.fromkeys(classes)], entries)


def _boxes(image: Element) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    for box in image.iterfind("box"):
        left, top, right, bottom = (float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        yield box.attrib["label"], (left, top, right - left, bottom - top)


read = partial(read_listing, kind="cvat", parse=_listing, content="an XML export of CVAT")
