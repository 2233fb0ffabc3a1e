"""The notebooks run from top to bottom and still show what they say.

  OOD_KERAS_WRITE_NOTEBOOKS=1 python -m pytest tests/notebook_test.py -m ""

writes what they show now into the notebooks; `-k your_model` takes one of them.
"""

import copy
import importlib.util
import os
import pathlib
import re

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
NOTEBOOKS = {path.stem: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# They train or convert for minutes on a busy core.
SLOW = {"export_and_serve", "quickstart", "table1_row"}
PICTURES = {
    "export_and_serve": 2,
    "quickstart": 3,
    "table1_row": 1,
    "threshold": 2,
    "your_model": 3,
}


def read(name):
    return nbformat.read(NOTEBOOKS[name], as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def data(cell, kind):
    """What a cell shows of one kind, such as "image/png", without its log."""
    return [o["data"][kind] for o in cell.outputs if kind in o.get("data", {})]


def shown(cell):
    """What a cell shows that is the same on every machine.

    Numbers differ where a network was trained; a cell whose tag is `exact` shows none
    of these, and one whose tag is `varies` may also choose between words by them.
    """
    tags = cell.metadata.get("tags", [])
    printed = [o.text for o in cell.outputs if o.get("name") == "stdout"]
    texts = ["".join(printed), *data(cell, "text/plain")]
    if "varies" in tags:
        texts = [bool(text) for text in texts]
    elif "exact" not in tags:
        texts = [re.sub(r"[\d.,]*\d|[\s-]+", "#", text) for text in texts]
        texts = [re.sub("#+", "#", text) for text in texts]
    return {"texts": texts, "pictures": len(data(cell, "image/png"))}


def without_log(notebook):
    """A copy to commit: without times, versions and what goes to the error stream."""
    notebook = copy.deepcopy(notebook)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    return notebook


def test_masks_hide_numbers_and_nothing_else():
    def cell(text, *tags):
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
        metadata = {"tags": list(tags)}
        return nbformat.v4.new_code_cell(outputs=[output], metadata=metadata)

    first, second = "AUROC  99.98 of 12", "AUROC 1,000.0 of 3"
    assert shown(cell(first)) == shown(cell(second))
    assert shown(cell(first)) != shown(cell("FPR95 99.98 of 12"))
    assert shown(cell(first, "exact")) != shown(cell(second, "exact"))
    assert shown(cell(first, "varies")) == shown(cell("FPR95", "varies"))
    assert shown(cell(first, "varies")) != shown(cell("", "varies"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_committed_notebook_shows_outputs_and_pictures(name):
    cells = code_cells(read(name))
    assert sum(len(data(cell, "image/png")) for cell in cells) == PICTURES[name]
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds
    assert "stderr" not in {o.get("name") for cell in cells for o in cell.outputs}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in NOTEBOOKS
    ],
)
def test_notebook_runs_from_top_to_bottom_and_shows_what_it_did(name):
    notebook = read(name)
    nbclient.NotebookClient(
        notebook,
        timeout=900,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT / "notebooks")}},
    ).execute()
    if os.environ.get("OOD_KERAS_WRITE_NOTEBOOKS"):
        nbformat.write(without_log(notebook), NOTEBOOKS[name])
    for now, committed in zip(
        code_cells(notebook), code_cells(read(name)), strict=True
    ):
        assert shown(now) == shown(committed), now.source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_first_cell_installs_from_the_checkout_or_an_address(
    name, tmp_path, monkeypatch
):
    lines = code_cells(read(name))[0].source
    lines, num_replaced = re.subn(r'%pip install --quiet (".+")', r"pip(f\1)", lines)
    assert num_replaced == 1
    installed = []
    for is_there, folder in ((True, ROOT), (False, NOTEBOOKS[name].parent)):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda _, it=is_there: it or None
        )
        monkeypatch.chdir(folder)
        exec(lines, {"pip": installed.append})
    monkeypatch.chdir(tmp_path)
    exec(lines, {"pip": installed.append})
    from_checkout, from_address = installed
    assert re.fullmatch(r"ood_keras(\[tflite\])? @ file://.+", from_checkout)
    assert from_checkout.endswith(ROOT.as_uri())
    assert " @ git+https://" in from_address


def test_the_site_lists_every_notebook():
    index = (ROOT / "docs/index.md").read_text()
    assert set(re.findall(r"^notebooks/(\w+)$", index, re.M)) == set(NOTEBOOKS)
