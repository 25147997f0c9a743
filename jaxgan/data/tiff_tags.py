"""What the tags of a TIFF say: whether it is whole, and how large its pixels are."""

import struct
from typing import Any
from xml.etree import ElementTree

import tifffile

_DESCRIPTION = 270  # where ImageJ and OME keep axes and scale
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}
# What ImageJ and OME say about Z and T; passed on to an output as it stands.
_IMAGEJ_KEYS = ("spacing", "finterval", "fps")
_OME_KEYS = (
    "PhysicalSizeZ",
    "PhysicalSizeZUnit",
    "TimeIncrement",
    "TimeIncrementUnit",
)


def check_complete(tif: tifffile.TiffFile) -> None:
    """Raises `ValueError` if the file ends before what it points at does.

    tifffile is content with the pages and tags before it, so that a stack that lost
    some would pass for a shorter one, or for one without axes.
    """
    _, next_page = _directory(tif, tif.pages[-1])
    codes, _ = _directory(tif, tif.pages[0])
    ends = (
        offset + count
        for page in tif.pages
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )
    lost_description = _DESCRIPTION in codes and _DESCRIPTION not in tif.pages[0].tags
    if next_page or lost_description or max(ends, default=0) > tif.filehandle.size:
        raise ValueError("the file is truncated")


def _directory(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[list, int]:
    """Returns the tag codes in a page's directory, and the offset of the next page."""
    layout, file = tif.tiff, tif.filehandle
    file.seek(page.offset)
    (count,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
    tags = file.read(count * layout.tagsize)
    starts = range(0, len(tags), layout.tagsize)
    codes = [struct.unpack_from(layout.byteorder + "H", tags, i)[0] for i in starts]
    (next_page,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
    return codes, next_page


def scale(tif: tifffile.TiffFile) -> dict[str, Any]:
    """Returns the format and the scale of a file: the fields of `readers.Meta`."""
    kind = tif.series[0].kind
    if kind == "ome":
        return {"format": "ome"} | _ome_scale(tif.ome_metadata)
    tags = tif.pages[0].tags
    unit = _RESOLUTION_UNITS.get(tags.valueof("ResolutionUnit"), "")
    extra = {}
    if kind == "imagej":
        unit = tif.imagej_metadata.get("unit", "")
        extra = {k: v for k, v in tif.imagej_metadata.items() if k in _IMAGEJ_KEYS}
    size = _pixel_size(tags)
    if size == (1.0, 1.0) and not unit:  # what writers put who know no pixel size
        size = None
    format = "imagej" if kind == "imagej" else "tiff"
    return {"format": format, "pixel_size": size, "unit": unit, "extra": extra}


def _pixel_size(tags: tifffile.TiffTags) -> tuple[float, float] | None:
    """Returns the size in Y and X, the inverse of the fractions that TIFF stores."""
    resolutions = [tags.valueof(name) for name in ("YResolution", "XResolution")]
    if not all(fraction and all(fraction) for fraction in resolutions):
        return None
    (y_pixels, y_units), (x_pixels, x_units) = resolutions
    return y_units / y_pixels, x_units / x_pixels


def _ome_scale(xml: str) -> dict[str, Any]:
    """Reads the first `Pixels` element of OME-XML."""
    attributes = ElementTree.fromstring(xml).find(".//{*}Pixels").attrib
    extra = {key: attributes[key] for key in _OME_KEYS if key in attributes}
    if not {"PhysicalSizeY", "PhysicalSizeX"} <= set(attributes):
        return {"extra": extra}
    size = (float(attributes["PhysicalSizeY"]), float(attributes["PhysicalSizeX"]))
    unit = attributes.get("PhysicalSizeXUnit", "µm")  # the schema's default
    return {"pixel_size": size, "unit": unit, "extra": extra}
