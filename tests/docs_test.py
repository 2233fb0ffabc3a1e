"""The API reference has every public module; `make docs` fails where one is broken."""

import importlib
import inspect
import pathlib
import re

import ood_keras

REFERENCE = pathlib.Path(__file__).resolve().parents[1] / "docs/reference"


def test_every_public_module_has_its_place():
    rooms = {
        f"ood_keras.{name}"
        for name in [*ood_keras.__all__, "study"]
        if inspect.ismodule(getattr(ood_keras, name))
    }
    modules = {
        thing.__name__
        for room in rooms
        for name in getattr(importlib.import_module(room), "__all__", ())
        if inspect.ismodule(thing := getattr(importlib.import_module(room), name))
    }
    pages = {page.stem: page.read_text() for page in REFERENCE.glob("*.md")}
    documented = set(
        re.findall(r"^\.\. automodule:: (\S+)$", "\n".join(pages.values()), re.M)
    )
    assert documented == rooms | modules | {"ood_keras.types"}
    contents = re.search(r"```{toctree}\n(.+?)```", pages.pop("index"), re.S)
    assert set(contents[1].split()) == set(pages)


def test_the_page_on_folders_names_tests_that_are_there():
    page = (REFERENCE.parent / "folders.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| tried |", "| --- |"))]
    assert len(rows) > 30
    tests = pathlib.Path(__file__).parent
    for row in rows:
        named = re.findall(r"`([\w/]+_test\.py)`", row.split("|")[-2])
        assert all((tests / name).is_file() for name in named), row
        # What no test shows is still open.
        assert named or "**Open**" in row, row
