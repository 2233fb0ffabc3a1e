"""The pages lead to what is there; `make docs` fails where one is broken."""

import configparser
import importlib
import inspect
import pathlib
import re

import ood_keras

ROOT = pathlib.Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs/reference"


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


def test_links_lead_somewhere_in_a_checkout():
    """Those who read the pages where the code is hosted have no built site."""
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", _prose(page))
        if not (page.parent / target).exists() and "notebooks" not in page.parts
    ]
    assert not dead


def _prose(page):
    return re.sub(r"```.*?```|`[^`]+`", "", page.read_text(), flags=re.DOTALL)


def test_every_extra_is_explained():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    table = (ROOT / "docs/start.md").read_text().partition("| extra |")[2]
    rows = [line.split("|")[1] for line in table.split("\n\n")[0].splitlines()[2:]]
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert sorted(named) == sorted(config["options.extras_require"])


def test_examples_open_shipped_models_by_name_and_write_elsewhere():
    """Version 1 of a shipped model is not the newest, and what is there stays."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    pages += [*(ROOT / "ood_keras").rglob("*.py"), *(ROOT / "tools").glob("*.py")]
    # A shipped model that was exported again takes the place of one version.
    pages.remove(ROOT / "tools/reexport.py")
    example = re.compile(
        r"""(?:--model=|--output=|\(["']|, ["'])saved_models/(?:fashion_)?mnist\b"""
    )
    assert example.search('export.load("saved_models/mnist/1")')
    assert not [
        f"{page.relative_to(ROOT)}: {line}"
        for page in pages
        for line in page.read_text().splitlines()
        if example.search(line)
    ]


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
