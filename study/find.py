"""A study by its name, or by the file of the user that defines it."""

import pathlib

from ood_keras import plugins
from ood_keras.study import colour, readings, scanner, table1
from ood_keras.study.grid import Study

_BUILT_IN = {
    study.name: study
    for study in (table1.TABLE1, scanner.SCANNER, readings.READINGS, colour.COLOUR)
}


def find_study(name: str) -> tuple[Study, pathlib.Path | None]:
    """Returns a study and the file that it comes from, `None` of a built-in one.

    Args:
        name: "table1", "scanner", "readings", "colour", or the path of a Python file
            that defines `STUDY`; the file is run.

    Raises:
        ValueError: there is no such study, or the file defines none.
        FileNotFoundError: there is no such file.
        ImportError: the file fails; the message says where.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name], None
    if not name.endswith(".py"):
        raise ValueError(
            f"a study is one of {', '.join(_BUILT_IN)}, or a file FILE.py that defines "
            f"STUDY = study.Study(...). Received: {name!r}"
        )
    path = pathlib.Path(name).expanduser().absolute()
    study = getattr(plugins.run_file(path), "STUDY", None)
    if not isinstance(study, Study):
        raise ValueError(
            f"{path} must define STUDY = study.Study(...), with `from ood_keras import "
            f"study`. Received: STUDY = {study!r}"
        )
    return study, path
