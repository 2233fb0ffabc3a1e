"""How the documentation is built: `make docs` writes build/docs/index.html."""

import inspect
import os
import pathlib
import re
import shutil

from ood_keras._version import __version__

_DOCS = pathlib.Path(__file__).parent
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "ood_keras"
author = "the ood_keras authors"
copyright = "the ood_keras authors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = "ood_keras"
html_static_path = []

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
# The guides run here, once for each state of their code: remove build/.jupyter_cache to
# run them again on another state of the library. Notebooks are committed with their
# outputs, which a test keeps current.
nb_execution_mode = "cache"
nb_execution_cache_path = str(_DOCS.parent / "build" / ".jupyter_cache")
nb_execution_excludepatterns = ["notebooks/*"]
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_output_stderr = "remove"  # TensorFlow's remarks on the machine.

autosummary_generate = True
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Call arguments", "params_style")]
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# Sphinx reads nothing outside its folder, and a link is no help on every system.
shutil.copytree(_DOCS.parent / "notebooks", _DOCS / "notebooks", dirs_exist_ok=True)


def setup(app):
    app.connect("source-read", _link_to_copied_notebooks)
    app.connect("autodoc-process-docstring", _read_as_markdown)
    app.connect("autodoc-skip-member", _skip_inherited_text)


def _link_to_copied_notebooks(app, docname, source):
    """The pages link to the notebooks where they lie, one folder above their copies."""
    source[0] = re.sub(r"\]\(\.\./((?:\.\./)*notebooks/)", r"](\1", source[0])


def _skip_inherited_text(app, what, name, obj, skip, options):
    """A method that overrides another and says nothing new stands with the other."""
    is_silent = inspect.isfunction(obj) and not obj.__doc__
    return True if what == "class" and is_silent else None


def _read_as_markdown(app, what, name, obj, options, lines):
    """Docstrings have Markdown's code marks; Sphinx reads reStructuredText."""
    text = "\n".join(lines)
    text = re.sub(
        r"^( *)```(?:python)?\n(.*?)^ *```$", _indent_code, text, flags=re.M | re.S
    )
    text = re.sub(r"(?<![`\w:])`([^`\n]+(?:\n[^`\n]+)?)`(?!`)(\w?)", _mark_code, text)
    lines[:] = text.split("\n")


def _indent_code(match):
    code = "".join(f"    {line}\n" for line in match[2].splitlines())
    return f"{match[1]}.. code-block:: python\n\n{code}"


def _mark_code(match):
    # A letter right behind the code needs an escaped space.
    return f"``{' '.join(match[1].split())}``" + (f"\\ {match[2]}" if match[2] else "")
