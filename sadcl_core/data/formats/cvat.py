"""CVAT for images: the XML file that CVAT exports.

    annotations.xml   <annotations><meta>...<label><name>cat</name></label>...</meta>
                        <image id="0" name="a.jpg" subset="train" width="64" height="64">
                          <tag label="cat"/> <box label="dog" xtl="1" ytl="2" xbr="30" ybr="20"/>
                        </image></annotations>

Every tag and shape counts. The task lists the classes. A label of which every tag and shape has source="auto" was
given by a program and touched by nobody: it is unknown, and so are all labels of an image that has no others, which is left out
where no classes are listed.
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
PARTS = True
DEEPER = ("*/annotations.xml",)  # of the jobs of a task
HEAD = 4096  # bytes in which the file begins
AUTOMATIC = "auto"  # source of what a program drew


def recognises(path: Path) -> bool:
    """Return True if a file begins as CVAT's do."""
    with path.open("rb") as file:
        return b"<annotations" in file.read(HEAD)


def _listing(path: Path) -> Listing:
    classes: list[str] = []
    attributes: dict[str, None] = {}
    entries: list[Entry | None] = []
    try:
        for _, element in iterparse(path, forbid_dtd=True):
            if element.tag == "track":
                raise DataError(f"{path} is CVAT's export of a video. Export the task as CVAT for images.")
            if element.tag == "label" and (name := element.findtext("name")) and element.find("parent") is None:  # of a skeleton
                classes.append(name.strip())
            if element.tag == "image":
                attributes |= dict.fromkeys(str(one.get("name")) for one in element.iterfind("*/attribute"))
                entries.append(_entry(element, classes))
                element.clear()
    except DefusedXmlException:
        raise DataError(f"{path} declares XML entities or a document type, which CVAT never does. Export it again.") from None
    except ParseError as error:
        raise DataError(f"{path} cannot be read as XML ({error}). Export it again.") from None
    notes = [f"attributes that were not read: {', '.join(attributes)[:200]}"] if attributes else []
    return Listing([*dict.fromkeys(classes)], entries, notes)


def _entry(image: Element, classes: list[str]) -> Entry | None:
    """Return an image of a task with these classes; None if programs gave all its labels and no classes are listed."""
    names = dict.fromkeys(shape.attrib["label"] for shape in image if "label" in shape.attrib)
    confirmed = {shape.attrib["label"] for shape in image if "label" in shape.attrib and shape.attrib.get("source") != AUTOMATIC}
    if names and not confirmed and not classes:
        return None
    unknown = [name for name in (names if confirmed or not names else classes) if name not in confirmed]
    return Entry(
        image.attrib["name"],
        [name for name in names if name in confirmed],
        unknown,
        split=split_name(image.attrib.get("subset", "")),
        boxes=[(name, sides) for name, sides in _boxes(image) if name in confirmed],
    )


def _boxes(image: Element) -> Iterator[tuple[str, tuple[float, float, float, float]]]:
    for box in image.iterfind("box"):
        left, top, right, bottom = (float(box.attrib[side]) for side in ("xtl", "ytl", "xbr", "ybr"))
        yield box.attrib["label"], (left, top, right - left, bottom - top)


read = partial(read_listing, kind="cvat", parse=_listing, content="an XML export of CVAT")
