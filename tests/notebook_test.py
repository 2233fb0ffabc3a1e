"""The notebook runs from top to bottom and still shows what it says."""

import pathlib

import nbclient
import nbformat
import pytest

NOTEBOOK = pathlib.Path(__file__).resolve().parents[1] / "notebooks/quickstart.ipynb"


def outputs(notebook):
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def has_picture(cell_outputs):
    return any("image/png" in output.get("data", {}) for output in cell_outputs)


@pytest.fixture(scope="module")
def executed():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    return notebook


def test_committed_notebook_shows_outputs_and_pictures():
    committed = outputs(nbformat.read(NOTEBOOK, as_version=4))
    assert sum(map(has_picture, committed)) == 3
    assert not any(
        output.output_type == "error" for cell in committed for output in cell
    )


def test_notebook_runs_from_top_to_bottom(executed):
    assert sum(map(has_picture, outputs(executed))) == 3
    text = str(outputs(executed)[-1])
    assert "__unknown__" in text
    assert "'valid': np.False_" in text
