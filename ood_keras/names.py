"""Names that people chose, of classes, sources and files, fit to be shown."""

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\\]")
# Line ends and controls, halves of characters, and what turns the direction of writing.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff]"
)
# Without and with a join between two letters, which many languages tell words by; and
# what makes flags of a flag.
_JOINERS = {"\u200c", "\u200d", *map(chr, range(0xE0020, 0xE0080))}
_UNWRITABLE = re.compile("[\x00\ud800-\udfff]")


def fold(name: str) -> str:
    """What two names have in common that look the same or differ in case alone.

    Example:

    >>> fold("Caf\\u00e9 au  Lait ") == fold("cafe\\u0301 au lait")
    True
    """
    # Folding the case may take marks apart again.
    return look(unicodedata.normalize("NFD", name).casefold())


def look(name: str) -> str:
    """What two names have in common that look the same.

    Letters with marks, which Unicode writes as one character or as several, are the
    same; white space counts once, and not at the ends; what cannot be seen does not
    count, but for what joins letters. Empty if there is nothing to be seen.
    """
    seen = (
        one
        for one in unicodedata.normalize("NFC", name)
        if one in _JOINERS or unicodedata.category(one) != "Cf"
    )
    return " ".join("".join(seen).split())


def printable(text: str) -> str:
    r"""Text without what no table holds: line ends, and bytes that are no text.

    These become `\n`, `\udcff` and so on, and a backslash becomes two, so that no two
    names look the same.
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: Any) -> str:
    r"""Text on one line that any page can show; backslashes stay as they are.

    Runs of white space become one space. Characters that cannot be seen, or that would
    turn the direction of what follows, become `\x00`, `\u202e` and so on.
    """
    text = " ".join(str(text).split())
    return _INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], text)


def valid(text: str) -> str:
    r"""Text that every file can hold: half characters become `\udcff` and so on.

    Python makes these of file names that are no UTF-8. A zero, at which many formats
    end a text, becomes `\x00`.
    """
    return _UNWRITABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def on_page(value: Any) -> Any:
    """What an expression of a Jinja page shows: text on one line, markup as it is."""
    if not isinstance(value, str):
        return value
    return type(value)(valid(value)) if hasattr(value, "__html__") else one_line(value)


def shorten(
    names: Iterable[Any], width: int, clean: Callable[[str], str] = one_line
) -> list[str]:
    """The names on one line and no longer than `width`, and still different.

    What is too long loses its middle, since many names share a beginning. Where names
    became equal, the number of each is added.

    Args:
        names: Texts, an iterable.
        width: Most characters, at least 12.
        clean: What to do to a name before anything else.

    Returns:
        A list of texts in the same order.

    Example:

    >>> shorten(["cat", "folder:/data/pictures/of/cats"], 15)
    ['cat', 'folder:…of/cats']
    """
    names = [str(name) for name in names]
    short = [_cut(clean(name), width) for name in names]
    count: dict[str, int] = {}
    for _, text in set(zip(names, short, strict=True)):
        count[text] = count.get(text, 0) + 1
    return [
        text if count[text] == 1 else f"{_cut(text, width - 5)} ({number})"
        for number, text in enumerate(short)
    ]


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    start, end = text[: width - 1 - half], text[len(text) - half :]
    # No mark without the letter that it belongs to.
    while end and unicodedata.combining(end[0]):
        end = end[1:]
    return f"{start}…{end}"
