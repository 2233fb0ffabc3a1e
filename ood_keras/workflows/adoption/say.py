"""What a long workflow tells of its progress."""

import sys


class Say:
    """Prints what is being done, if that is wanted.

    A `passing` text gives way to the next one where there is a terminal, and is not
    printed elsewhere.
    """

    def __init__(self, shown: bool) -> None:
        self._shown = shown
        self._passing = 0

    def __call__(self, text: str, passing: bool = False) -> None:
        if not self._shown or (passing and not sys.stdout.isatty()):
            return
        blank = "\r" + " " * self._passing + "\r" if self._passing else ""
        self._passing = len(text) if passing else 0
        print(blank + text, end="" if passing else "\n", flush=True)
