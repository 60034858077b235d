"""What a file is: by its suffix before it is opened, by its first bytes where it is no image that can be read."""

import stat
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from concord.text import listed

HEAD = 512
"""Bytes that are enough to tell what a file is."""
_NO_FILES = {"p": "a pipe", "s": "a socket", "c": "a device", "b": "a device", "d": "a folder"}
_AGAIN = "it came from a link to a page; fetch the file"


class Kind(NamedTuple):
    """A kind of file. magic: (offset, bytes) of its head, case aside. format: Pillow's name. way: to an image."""

    name: str
    suffixes: str
    magic: tuple[tuple[int, bytes], ...]
    format: str = ""
    way: str = "save it as PNG or JPEG"


KINDS = (
    Kind("JPEG", ".jpg .jpeg .jpe .jfif", ((0, b"\xff\xd8\xff"),), "JPEG"),
    Kind("PNG", ".png", ((0, b"\x89png"),), "PNG"),
    Kind("WebP", ".webp", ((8, b"webp"),), "WEBP"),
    Kind("GIF", ".gif", ((0, b"gif8"),), "GIF"),
    Kind("BMP", ".bmp", ((0, b"bm"),), "BMP"),
    Kind("JPEG 2000", ".jp2", ((4, b"jp  "),), "JPEG2000"),
    Kind("PNM", ".ppm .pgm .pbm .pnm", (), "PPM"),
    Kind("a camera's raw file", ".cr2 .cr3 .nef .arw .dng .raf .orf .rw2 .pef", ((8, b"cr\x02"), (4, b"ftypcrx"))),
    Kind("TIFF", ".tif .tiff", ((0, b"ii*\0"), (0, b"mm\0*")), "TIFF"),
    Kind("AVIF", ".avif", ((4, b"ftypavif"), (4, b"ftypavis")), "AVIF", "Pillow 11.3 or later reads it"),
    Kind(
        "HEIC",
        ".heic .heif .hif",
        tuple((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"heim", b"hevc", b"mif1", b"msf1")),
        "HEIF",
        "pip install 'concord-distill[heif]' reads it",
    ),
    Kind("a Git LFS pointer", "", ((0, b"version https://git-lfs"),), way="git lfs pull fetches the file"),
    Kind("HTML", "", ((0, b"<!doctype html"), (0, b"<html")), way=_AGAIN),
    Kind("SVG", ".svg", ((0, b"<svg"),)),
    Kind("XML", "", ((0, b"<?xml"),), way=_AGAIN),
    Kind("JPEG XL", ".jxl", ((0, b"\xff\x0a"), (4, b"jxl "))),
    Kind("Photoshop's", ".psd", ((0, b"8bps"),)),
    Kind("PostScript", ".eps .ps", ((0, b"%!ps"), (0, b"\xc5\xd0\xd3\xc6"))),
    Kind("a PDF", ".pdf", ((0, b"%pdf"),)),
    Kind("DICOM", ".dcm", ((128, b"dicm"),), way="save it as 16-bit PNG"),
    Kind("a video", ".mp4 .mov .m4v .avi .mkv .webm .mpg", ((4, b"ftyp"), (8, b"avi ")), way="take frames out of it"),
    Kind("an archive", ".zip .tar .gz .7z .rar", ((0, b"pk\x03\x04"), (0, b"\x1f\x8b"), (0, b"rar!")), way="unpack it"),
    Kind("an array", ".npy .npz", ((0, b"\x93numpy"),)),
    Kind("", ".ico .tga .dds .exr .hdr .pcx .qoi", ()),
)
"""What data sets hold in the place of images, or as such; what is more particular stands first."""


def require_file(path: Path) -> None:
    """Raise OSError for what is no file and may never end, before it is opened: pipes, sockets and devices."""
    if what := _NO_FILES.get(stat.filemode(path.stat().st_mode)[0]):
        raise OSError(f"it is {what}, where a file is expected")


def what_is(head: bytes, formats: Collection[str]) -> str:
    """Say what a file is that cannot be read, and what to do, by its first bytes; nothing where they do not tell.

    formats: Pillow's names of the image formats that can be read.
    """
    if not head.strip(b"\0"):
        return "it holds nothing but zeros" if head else "it is empty"
    texts = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower(), head.lower()
    for kind in KINDS:
        if any(texts[at > 0].startswith(magic, at) for at, magic in kind.magic):
            if kind.format in formats:
                return f"it begins as {kind.name} does, but is damaged or cut off"
            return f"it is {kind.name}; {kind.way}"
    return ""


def passed_over(names: Iterable[str]) -> str:
    """Say how many files of which kind were passed over by their suffixes, and what would read them."""
    counts = Counter(Path(name).suffix.lower() for name in names)
    parts = [f"{n} without suffix (name images .jpg, .png, ...)" for n in [counts.pop("", 0)] if n]
    for kind in KINDS:
        if found := [suffix for suffix in kind.suffixes.split() if suffix in counts]:
            parts.append(f"{sum(map(counts.pop, found))} {', '.join(found)} ({kind.way})")
    if counts:
        parts.append(f"{counts.total()} {listed((suffix for suffix, _ in counts.most_common()), 3)}")
    return ", ".join(parts)
