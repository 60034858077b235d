import difflib
import re
import unicodedata
from collections.abc import Iterable


def listed(names: Iterable[str], most: int = 5, noun: str = "") -> str:
    """The first few of some names in a line, and how many more there are (of what `noun` says)."""
    found = list(names)
    more = f" and {len(found) - most} more {noun}".rstrip() if len(found) > most else ""
    return ", ".join(found[:most]) + more


def composed(text: str) -> str:
    """A text with its letters and their marks as one character each (NFC): as people compare what they see."""
    return unicodedata.normalize("NFC", text)


def folded(text: str) -> str:
    """A text to compare names by: composed, and without case."""
    return composed(composed(text).casefold())


def meant(word: str, known: Iterable[str]) -> list[str]:
    """Return the known names that a word means: itself, else those of other Unicode form, else of other case, too."""
    names = list(known)
    if word in names:
        return [word]
    return next((found for form in (composed, folded) if (found := [n for n in names if form(n) == form(word)])), [])


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean "x"?)`` for the known word that looks most like `word`, but for case, or nothing."""
    by_folded: dict[str, str] = {}
    for name in known:
        if plain(composed(name)) != plain(composed(word)):
            by_folded.setdefault(folded(name), name)
    close = difflib.get_close_matches(folded(word), list(by_folded), n=1, cutoff=0.6)
    return f' (did you mean "{by_folded[close[0]]}"?)' if close else ""


def plain(text: str) -> str:
    """A text from outside in one line, without what would steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def file_name(text: str) -> str:
    """A text as the name of a file or directory, in characters that every file system and shell takes."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "unnamed"


def counted(n: int, noun: str) -> str:
    """A number with its noun: ``1 class``, ``2 classes``, ``1 000 images``."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n:,} {noun if n == 1 else plural}".replace(",", " ")


def duration(seconds: float) -> str:
    """Say a time as people do: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def between(seconds: tuple[float, float]) -> str:
    """Say a range of times: ``3 min 20 s to 4 min 1 s``, and one where both are said alike."""
    low, high = map(duration, seconds)
    return low if low == high else f"{low} to {high}"


def size(count: float) -> str:
    """Say bytes in the unit that fits: ``640 kB``, ``19 MB``, ``2.4 GB``."""
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


_UNPRINTABLE = re.compile(r"[^\n -~\xa1-\xac\xae-\u02ff]")


def _printable(text: str) -> str:
    """The text with a space for each character that is not printable, but for line breaks (rich lays out with them)."""
    return _UNPRINTABLE.sub(lambda found: found[0] if found[0].isprintable() else " ", text)
