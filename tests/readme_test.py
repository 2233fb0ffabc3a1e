"""What the README says is so."""

import importlib
import pathlib
import re

from ood_keras.study import write_results

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_results_are_quoted_from_the_committed_files(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert write_results.insert_results(README) == README


def test_links_and_pictures_lead_somewhere():
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_lines_for_a_notebook_run(tmp_path, monkeypatch):
    (snippet,) = re.findall(r"```python\n(.+?)```", README, flags=re.DOTALL)
    (output,) = re.findall(r'"(saved_models/.+)"', snippet)
    # What is there is never overwritten.
    assert not (ROOT / output).exists()
    monkeypatch.chdir(tmp_path)
    for needs_data, needs_none in (
        ("emnist/letters", "glyphs"),
        ('"mnist"', '"digits"'),
        # A small network: what is tested are the lines.
        ("num_classes=10)\nmodel", "num_classes=10, filters=(4, 8))\nmodel"),
    ):
        assert needs_data in snippet
        snippet = snippet.replace(needs_data, needs_none)
    exec(compile(snippet, "README.md", "exec"), {})
    assert (tmp_path / "saved_models/my_digits/1/saved_model.pb").is_file()


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", README, flags=re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_commands_take_the_flags_that_the_pages_give():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    seen = set()
    for page in pages:
        text = page.read_text().replace("\\\n", " ")
        for name, arguments in re.findall(r"^ood-(\w+) (.+)$", text, re.MULTILINE):
            if name == "study":  # It has commands of its own.
                continue
            tool = importlib.import_module(f"ood_keras.tools.{name}")
            for flag in re.findall(r"--(\w+)", arguments.partition(" #")[0]):
                assert flag in tool._FLAGS, (page, name, flag)
            seen.add((page.name, name))
    for name in ("train", "evaluate", "export", "predict"):
        assert {("README.md", name), ("photographs.md", name)} <= seen
    assert {("photographs.md", "data"), ("photographs.md", "convert")} <= seen
