"""Pages that are written from results: what they say, and that the committed ones do.

Numbers here are invented; the committed pages are compared with the committed results.
"""

import json
import math
import pathlib
import zipfile

import made_up_study
import pytest

from ood_keras import metrics, npz
from ood_keras.evaluation import figures
from ood_keras.study import (
    intervals,
    markdown,
    records,
    table1_findings,
    table1_goals,
    table1_page,
    table1_pictures,
    write_results,
)
from ood_keras.study import summary as study_summary
from ood_keras.study.find import find_study
from ood_keras.study.study_results import StudyResults
from ood_keras.study.table1 import TABLE1

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a README and a study, as working directory."""
    monkeypatch.chdir(tmp_path)
    made_up_study.write(pathlib.Path("results/table1"))
    pathlib.Path("README.md").write_text(
        "before\n<!-- results: results/table1 -->\nold\n<!-- end -->\nafter\n"
    )
    return tmp_path


@pytest.fixture
def page(root):
    return table1_page.results_page("results/table1", pathlib.Path("docs/images"))


def section(page, title):
    """The lines between a heading that starts so and the next one."""
    (_, _, rest) = page.partition(f"\n{title}")
    assert rest, title
    return rest.partition("\n#")[0].splitlines()[1:]


def cells(lines, first):
    (line,) = [line for line in lines if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def auroc_table(text):
    """The lines of a section's first table of MNIST."""
    return text.partition("### mnist: AUROC")[2].partition("###")[0].splitlines()


def goals_of(study):
    return str(table1_goals.table(study)).splitlines()


def findings_of(folder, summary):
    findings = table1_findings.find(StudyResults(folder, summary))
    return markdown.render("findings", findings=findings)


def run(*arguments):
    write_results._FLAGS.unparse_flags()
    write_results._FLAGS(["write_results", *arguments])
    write_results._write()


def test_the_committed_pages_say_what_the_committed_results_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path, text in write_results.pages().items():
        assert path.read_text() == text, f"{path}: run ood_keras.study.write_results"


# Every study with committed results, a new one too.
STUDIES = sorted(path.parent.name for path in ROOT.glob("results/*/study.json"))


@pytest.mark.parametrize("name", STUDIES)
def test_the_committed_tables_say_what_the_committed_runs_say(name):
    folder = ROOT / "results" / name
    study, _ = find_study(name)
    written, found = records.Records.read(folder), study_summary.collect(study, folder)
    assert found.about == written.about, f"run ood-study --study={name} --summary"
    assert found.runs == written.runs
    for table in ("measurements", "renderings", "classes"):
        rows = [
            {key: value for key, value in row.items() if value is not None}
            for row in getattr(found, table)
        ]
        assert getattr(written, table) == rows, table
    assert written.measurements


def test_the_tables_of_all_studies_are_compared():
    assert {"table1", "scanner", "readings", "colour"} <= set(STUDIES)


def test_the_committed_scores_give_the_committed_numbers():
    archives = sorted((ROOT / "results/table1").glob("*/*/seed_*/scores.npz"))
    assert archives
    for archive in archives:
        scores = npz.read(archive, "the scores of a run")
        result = json.loads(archive.with_name("metrics.json").read_text())
        right = scores["predictions/known"] == scores["labels/known"]
        assert result["known"]["accuracy"] == pytest.approx(right.mean())
        for method, rows in result["detectors"].items():
            for unknown, row in rows["unknown"].items():
                sets = scores[f"known/{method}"], scores[f"unknown/{unknown}/{method}"]
                found = metrics.evaluate_scores(*sets)
                assert {name: row[name] for name in found} == pytest.approx(found)
                interval = intervals.measure(scores, method, unknown)
                assert row["auroc_interval"] == pytest.approx(interval)


def test_every_committed_archive_is_read_by_a_picture_or_gives_the_readme_its_numbers(
    tmp_path, monkeypatch
):
    folder = ROOT / "results/table1"
    study = StudyResults.read(folder)
    needed = set()
    for known in study.summary["results"]:
        for method in table1_page._IN_README:
            run_dir = study.run_dir(known, study.training(method))
            needed.add(run_dir / "scores.npz")

    class NoFigure:
        def savefig(self, path):
            path.touch()

    for name in figures.__all__:
        monkeypatch.setattr(figures, name, lambda *args, **kwargs: NoFigure())
    opened = zipfile.ZipFile.__init__

    def open_archive(archive, file, *args, **kwargs):
        path = file if isinstance(file, str | pathlib.Path) else file.name
        needed.add(pathlib.Path(path))
        opened(archive, file, *args, **kwargs)

    monkeypatch.setattr(zipfile.ZipFile, "__init__", open_archive)
    assert table1_pictures.draw(folder, tmp_path)
    assert needed == set(folder.glob("*/*/seed_*/*.npz"))


def test_committed_runs_count_as_seen_what_training_was_shown():
    files = sorted((ROOT / "results/table1").glob("*/*/seed_*/metrics.json"))
    assert files
    for file in files:
        run = json.loads((file.parent / "run.json").read_text())
        shown = set(run["unknown"])
        if "synthetic" in shown:
            shown |= {"uniform_noise", "gaussian_noise"}
        for method, rows in json.loads(file.read_text())["detectors"].items():
            seen = {name for name, row in rows["unknown"].items() if row["seen"]}
            assert seen == shown & rows["unknown"].keys(), (file, method)


def test_numbers_are_percent_with_their_spread(page):
    lines = section(page, "### mnist: AUROC")
    header = cells(lines, "method")
    ours = dict(zip(header, cells(lines, "Ours"), strict=True))
    # Sample deviation of 99.70 and 99.80.
    assert ours["kmnist"] == "99.75 ± 0.07"
    assert ours["emnist/letters"] == "**99.91 ± 0.01**\\*"
    assert ours["uniform_noise"] == "**100.00 ± 0.00**"


def test_best_is_the_lowest_where_lower_is_better(page):
    lines = section(page, "### mnist: FPR95 known+")
    header = cells(lines, "method")
    column = header.index("kmnist")
    assert cells(lines, "Ours + synthetic (seed 0 only)")[column] == "**0.15**"
    assert cells(lines, "Ours")[column] == "0.25 ± 0.07"


def test_marks_tell_seen_from_noise_that_is_no_longer_unseen_in_spirit(page):
    lines = section(page, "### mnist: AUROC")
    header = cells(lines, "method")
    with_synthetic = cells(lines, "Ours + synthetic (seed 0 only)")
    row = dict(zip(header, with_synthetic, strict=True))
    assert row["emnist/letters"] == "99.85\\*"
    assert row["kmnist"] == "**99.85**"
    assert row["uniform_noise"] == "99.85†"
    assert "†" not in " ".join(cells(lines, "Ours"))
    assert "such a row counts as seen" in page


def test_the_papers_row_is_as_printed(page):
    lines = section(page, "### mnist: AUROC")
    header = cells(lines, "method")
    paper = dict(zip(header, cells(lines, '*the paper\'s "Ours"*'), strict=True))
    assert paper["emnist/letters"] == "99.88\\*"
    assert paper["omniglot"] == "99.80"


def test_what_was_not_measured_is_a_dash(page):
    lines = section(page, "### mnist: AUROC")
    odin = cells(lines, "ODIN (seed 0 only)")
    column = cells(lines, "method").index("kmnist")
    assert odin[column] == "–"  # noqa: RUF001
    assert "## Ablation" in page
    # No method of this group has results.
    assert "## Other families" not in page


def test_other_families_have_a_section_once_they_are_measured(root):
    folder = pathlib.Path("results/table1")
    summary = json.loads((folder / "summary.json").read_text())
    summary["methods"]["vae"] = {
        "title": "Likelihood ratio",
        "group": "other families",
        "training": "plain",
        "description": "two autoencoders",
    }
    for method, auroc in (("entropy", 0.93), ("vae", 0.91)):
        rows = {"kmnist": made_up_study.unknown_cells([auroc])}
        summary["results"]["mnist"][method] = rows
        summary["seeds"]["mnist"][method] = [0]
        summary["seen"]["mnist"][method] = []
    summary["known_accuracy"]["mnist"]["entropy"] = made_up_study.cell(0.994)
    made_up_study.write_summary(folder, summary)
    page = table1_page.results_page(folder, pathlib.Path("docs/images"))
    families = page.partition("## Other families")[2].partition("\n## ")[0]
    described, auroc = families.split("### mnist: AUROC")
    described, trained = described.split("| method | unknowns in training")
    lines = described.splitlines()
    assert cells(lines, "Entropy") == ["how plain is trained; what entropy is"]
    description = "how plain is trained; two autoencoders"
    assert cells(lines, "Likelihood ratio") == [description]
    lines = trained.splitlines()
    assert cells(lines, "Entropy") == ["none", "0", "99.40"]
    dash = "–"  # noqa: RUF001
    assert cells(lines, "Likelihood ratio") == ["none", "0", dash]
    lines = auroc.partition("###")[0].splitlines()
    column = cells(lines, "method").index("kmnist")
    assert cells(lines, "Entropy")[column] == "93.00"
    assert cells(lines, "Likelihood ratio")[column] == "91.00"
    assert cells(lines, "Likelihood ratio")[0] == dash
    # Its seed 0 alone, as for the others.
    assert cells(lines, "Ours")[column] == "99.70"
    assert cells(lines, "Ours")[0] == "99.60"
    assert "### fashion_mnist" not in families


def test_all_versions_are_named(page):
    assert "* **versions**: ood_keras 0.1.0 and 0.2.0" in page


def test_partial_grids_say_so(root, page):
    assert "**Partial: 2 of 4 runs are finished** (1 missing, 1 failed)" in page
    assert "`mnist/vae/seed_0` failed: no disk" in page
    summary = json.loads((root / "results/table1/summary.json").read_text())
    for study_run in summary["runs"].values():
        study_run["status"] = "finished"
    made_up_study.write_summary(root / "results/table1", summary)
    done = table1_page.results_page("results/table1", pathlib.Path("docs/images"))
    assert "Partial" not in done


def test_exposure_is_read_from_the_runs(page):
    lines = section(page, "## Known: mnist")
    assert cells(lines, "Ours + synthetic")[0] == "6,000 emnist/letters, synthetic"
    methods = section(page, "## The methods")
    assert cells(methods, "Ours") == ["how ours is trained; what ours is"]


def test_the_time_is_that_of_all_runs(root):
    folder = pathlib.Path("results/table1")
    summary = json.loads((folder / "summary.json").read_text())
    for name, minutes in (("0", {"training": 100, "evaluation": 20}), ("1", {"x": 60})):
        summary["runs"][f"mnist/ours/seed_{name}"]["minutes"] = minutes
    made_up_study.write_summary(folder, summary)
    page = table1_page.results_page(folder, pathlib.Path("docs/images"))
    assert "* **time**: 3 core hours" in page


def test_cells_met_are_those_of_the_summary(page):
    lines = section(page, "## Cells that meet or beat the paper")
    assert cells(lines, "Ours") == [
        "mnist 2, fashion_mnist 1",
        *("70", "20", "19", "18"),
    ]


def test_goals_count_what_was_not_measured_as_not_met(root):
    folder = pathlib.Path("results/table1")
    summary = json.loads((folder / "summary.json").read_text())
    summary["trainings"]["ours_synthetic"]["exposure"] = ["synthetic"]
    seen = {"known": "mnist", "unknown": "emnist/letters"}
    seen |= {"metric": "auroc", "paper": "99.88"}
    missing = {**seen, "known": "fashion_mnist", "unknown": "kmnist"}
    summary["against_paper"] |= {
        name: {**summary["against_paper"][name], "missed": missed}
        for name, missed in (
            ("ours", [seen, seen, missing]),
            ("ours_synthetic", [seen]),
        )
    }
    study = StudyResults(folder, summary)
    lines = goals_of(study)
    dash = "–"  # noqa: RUF001
    assert cells(lines, "Ours") == [
        "mnist 2, fashion_mnist 1",
        "67 ✗",
        "59 ✗",
        "39 ✗",
        "99.65 ✓",
        "94.00 ✓",
        "",
    ]
    assert cells(lines, "Ours + synthetic") == [
        "1",
        "69 ✗",
        "60 ✓",
        "40 ✓",
        "99.50 ✓",
        dash,
        "99.85 ✓",
    ]
    header = " ".join(cells(lines, "method"))
    assert ": 70 " in header and ": 60 " in header and ": 40 " in header
    # Rounding must not reach a goal.
    summary["known_accuracy"]["mnist"]["ours"]["mean"] = 0.99496
    assert cells(goals_of(study), "Ours")[4] == "99.50 ✗"
    made_up_study.write_summary(folder, summary)
    page = table1_page.results_page(folder, pathlib.Path("docs/images"))
    assert section(page, "## The goals")


def test_the_ablation_compares_runs_of_the_same_seeds(page):
    ablation = page.partition("## Ablation")[2].partition("\n## ")[0]
    lines = auroc_table(ablation)
    column = cells(lines, "method").index("kmnist")
    assert cells(lines, "Ours")[column] == "99.70"
    assert cells(lines, "Without the block")[column] == "98.00"
    assert "The first row has the modified block; features 128." in ablation


def test_more_epochs_are_shown_apart_and_held_to_the_goals(page):
    longer = page.partition("## Three times as long")[2].partition("\n## ")[0]
    lines = auroc_table(longer)
    column = cells(lines, "method").index("kmnist")
    assert cells(lines, "Ours + synthetic")[column] == "99.85"
    assert cells(lines, "Longer")[column] == "99.87"
    assert cells(section(page, "## The goals"), "Longer")[4] == "99.50 ✓"
    assert not any("Longer" in line for line in section(page, "## Known: mnist"))


def test_the_papers_recipe_says_what_else_differs(page):
    paper = page.partition("## The paper's own recipe")[2].partition("\n## ")[0]
    assert "stages of 8, 16 filters and 32 hidden units" in paper
    assert "augmentation is none, weight decay 0." in paper


def test_omniglot_is_shown_by_the_filter_that_reduced_it(root, page):
    assert "## Omniglot, by the filter" not in page
    row = dict.fromkeys(made_up_study.METRICS, 0.75) | {"auroc": 0.9625}
    result = {
        "known": "mnist",
        "detector": "msp",
        "run": {"recipe": "ours", "seed": 3, "unknown": []},
        "drawings": 13180,
        "filters": {"nearest": row, "bilinear": row},
    }
    pathlib.Path("results/omniglot_filters.json").write_text(json.dumps(result))
    page = table1_page.results_page("results/table1", pathlib.Path("docs/images"))
    lines = section(page, "## Omniglot, by the filter")
    assert "The same 13,180 drawings" in " ".join(lines) and "seed 3" in " ".join(lines)
    values = dict(zip(cells(lines, "filter"), cells(lines, "bilinear"), strict=True))
    assert values["AUROC"] == "96.25"


def test_inconsistencies_are_shown(root, page):
    assert "finds no numbers here that contradict" in page
    summary = json.loads((root / "results/table1/summary.json").read_text())
    summary["inconsistencies"] = ["ours: impossible"]
    made_up_study.write_summary(root / "results/table1", summary)
    page = table1_page.results_page("results/table1", pathlib.Path("docs/images"))
    assert "* ours: impossible" in page


@pytest.mark.parametrize("missing", ["ours", "odin", "ours_synthetic", "paper"])
def test_a_method_without_results_leaves_its_rows_out(root, missing):
    summary = json.loads((root / "results/table1/summary.json").read_text())
    for part in ("results", "known_accuracy", "seen", "seeds"):
        for known in summary[part].values():
            known.pop(missing, None)
    del summary["against_paper"][missing]
    made_up_study.write_summary(root / "results/table1", summary)
    title = summary["methods"][missing]["title"]
    page = table1_page.results_page("results/table1", pathlib.Path("docs/images"))
    assert f"\n| {title} |" not in page and f"\n| {title} (" not in page
    assert "| 70 |" in page
    assert table1_page.quote("results/table1")
    assert table1_page.reading_page("results/table1")
    assert table1_page.published_page("results/table1")


def test_an_empty_study_says_that_nothing_is_finished(root):
    summary = json.loads((root / "results/table1/summary.json").read_text())
    for part in ("results", "known_accuracy", "seen", "seeds", "against_paper"):
        summary[part] = {}
    made_up_study.write_summary(root / "results/table1", summary)
    assert "Partial" in table1_page.results_page(
        "results/table1", pathlib.Path("docs/images")
    )
    assert table1_page.published_page("results/table1")
    assert table1_page.quote("results/table1")
    assert table1_page.reading_page("results/table1")


def test_what_the_study_itself_writes_can_be_read(root):
    folder = pathlib.Path("results/table1")
    (run,) = [run for run in TABLE1.runs() if run.name == "mnist/ours/seed_0"]
    record = {
        **run.job(),
        "methods": {"ours": {"detector": "unknown_probability", "config": {}}},
        "run": {"versions": {"ood_keras": "0.1.0"}, "settings": {"data": {}}},
        "machine": {"processor": "made up", "cores": 2},
        "minutes": {"training": 8.0, "evaluation": 1.0},
    }
    row = {metric: 0.9990 for metric in made_up_study.METRICS[:3]}
    row |= {metric: 0.0010 for metric in made_up_study.METRICS[3:]}
    metrics = {
        "known": {"source": "mnist", "accuracy": 0.9967},
        "detectors": {"ours": {"unknown": {"kmnist": {"seen": False, **row}}}},
        "selected_detector": "ours",
    }
    (folder / run.name).mkdir(parents=True)
    for name, content in (("run", record), ("metrics", metrics)):
        (folder / run.name / f"{name}.json").write_text(json.dumps(content))
    study_summary.write(TABLE1, folder)
    page = table1_page.results_page(folder, pathlib.Path("docs/images"))
    assert "**Partial: 0 of" in page
    assert "1 without some of their methods" in page
    assert cells(section(page, "### mnist: AUROC"), "Ours")[1] == "**99.90**"
    assert cells(section(page, "## Known: mnist"), "Ours")[-1] == "99.67"
    published = table1_page.published_page(folder)
    assert "| kmnist | AUROC | 99.83 | 99.90 (+0.07) ✓ |" in published
    assert table1_pictures.draw(folder, root) == []


def test_published_page_compares_every_cell(root):
    page = table1_page.published_page("results/table1")
    lines = section(page, "## Known: mnist")
    rows = [line for line in lines if line.startswith("| kmnist | AUROC |")]
    assert rows == [
        "| kmnist | AUROC | 99.83 | 99.75 (-0.08) ✗ | 99.85 (+0.02) ✗ | "
        "99.87 (+0.04) ✗ | 96.00 (-3.83) ✗ |"
    ]
    letters = [
        line for line in lines if line.startswith("| emnist/letters\\* | AUROC |")
    ]
    assert "| 99.88 | 99.91 (+0.03) ✓ |" in letters[0]
    assert sum(line.count(" | ") > 0 for line in lines) == 2 + 35


def test_published_page_marks_noise_that_training_was_shown(root):
    page = table1_page.published_page("results/table1")
    (row,) = [
        line
        for line in page.splitlines()
        if line.startswith("| uniform_noise | Detection error | 0.1 |")
    ]
    _, _, _, ours, with_synthetic, longer, paper = (
        c.strip() for c in row.strip("|").split("|")
    )
    assert ours == "0.00 (-0.10) ✓"
    assert with_synthetic == "0.15 (+0.05) †✓"
    assert "†" in longer
    assert paper == "4.00 (+3.90) ✓"
    assert "†: training was shown noise" in page
    assert "ties in rounding resolved against ours" in page


def test_published_page_shows_each_score_in_a_table_of_its_own(root):
    folder = pathlib.Path("results/table1")
    summary = json.loads((folder / "summary.json").read_text())
    name = "ours_distances"
    summary["methods"][name] = {**summary["methods"]["ours"], "title": "Both"}
    summary["against_paper"][name] = summary["against_paper"]["ours"]
    cells_of_mnist = {"kmnist": made_up_study.unknown_cells([0.9991])}
    summary["results"]["mnist"][name] = cells_of_mnist
    made_up_study.write_summary(folder, summary)
    page = table1_page.published_page(folder)
    first = section(page, "## Known: mnist")
    assert "Both" not in "".join(first)
    both = section(page, "### mnist: with distances")
    assert "| kmnist | AUROC | 99.83 | 99.91 (+0.08) ✗ |" in both


def test_other_metrics_are_folded(page):
    mnist = page.partition("## Known: mnist")[2].partition("\n## ")[0]
    shown, folded = mnist.split("<details>")
    assert "### mnist: AUROC" in shown and "### mnist: FPR95" in shown
    assert folded.count("### mnist: ") == 3
    assert folded.index("### mnist: AUPR out") < folded.index("</details>")


def test_misses_are_part_of_the_results_and_linked_from_the_comparison(page):
    misses = page.partition("## Cells that are not met")[2].partition("\n## ")[0]
    assert "### mnist: Ours\n\n* kmnist: AUROC 99.75 (99.83)\n" in misses
    published = table1_page.published_page("results/table1")
    assert "](results.md#cells-that-are-not-met)" in published


def test_published_page_names_the_five_impossible_rows(root):
    page = table1_page.published_page("results/table1")
    found = section(page, "## Published cells that cannot be right")
    named = [line.split(":")[0] for line in found if line.startswith("* ")]
    assert named == [
        "* mnist, emnist/letters, odin",
        "* mnist, emnist/letters, confident_classifier",
        "* fashion_mnist, emnist/letters, odin",
        "* fashion_mnist, mnist, odin",
        "* fashion_mnist, mnist, confident_classifier",
    ]
    baselines = section(page, "## The baselines")
    published = [line for line in baselines if "| odin | published |" in line]
    assert "| 25.7 | 94.4 | 94.4 | 94.3 | 94.1 |" in published[0]
    measured = [line for line in baselines if "| odin | measured |" in line]
    assert (
        "| mnist | emnist/letters | odin | measured | 8.00 | 8.00 | 92.00"
        in (measured[0])
    )


def test_readme_quotes_the_study(root):
    quoted = write_results.insert_results(pathlib.Path("README.md").read_text())
    assert quoted.startswith("before\n<!-- results: results/table1 -->\n**Partial")
    assert quoted.endswith("<!-- end -->\nafter\n")
    assert cells(quoted.splitlines(), "Ours") == [
        "19 of 70 (18)",
        "99.65 ± 0.07",
        "94.00",
        "99.75 ± 0.07",
        "–",  # noqa: RUF001
    ]


def test_an_interval_of_auroc_stands_beside_the_lowest(root):
    folder = pathlib.Path("results/table1")
    summary = json.loads((folder / "summary.json").read_text())
    summary["auroc_intervals"] = {
        "mnist": {"ours": {"kmnist": {"0": [0.9961, 0.9976]}}}
    }
    made_up_study.write_summary(folder, summary)
    for page in (table1_page.quote(folder), table1_page.reading_page(folder)):
        lines = page.splitlines()
        column = cells(lines, "method").index("seed 0 and its interval")
        # Seed 0 has 99.70, the mean is 99.75.
        assert cells(lines, "Ours")[column - 1 : column + 1] == [
            "99.75 ± 0.07",
            "99.70 [99.61, 99.76]",
        ]
        assert cells(lines, "Ours + synthetic")[column] == markdown.MISSING
    page = table1_page.results_page(folder, pathlib.Path("docs/images"))
    folded = page.partition("AUROC of seed 0 with 95 % intervals")[2]
    lines = folded.partition("</details>")[0].splitlines()
    row = dict(zip(cells(lines, "method"), cells(lines, "Ours"), strict=True))
    assert row["kmnist"] == "99.70 [99.61, 99.76]"


def test_lowest_auroc_is_over_the_unknowns_that_no_method_saw(root):
    folder = pathlib.Path("results/table1")
    summary = json.loads((folder / "summary.json").read_text())
    mnist = summary["results"]["mnist"]
    # Both lower than kmnist: a source that others saw, and noise.
    mnist["softmax_threshold"] = {
        "emnist/letters": made_up_study.unknown_cells([0.70]),
        "kmnist": made_up_study.unknown_cells([0.90]),
        "uniform_noise": made_up_study.unknown_cells([0.60]),
    }
    made_up_study.write_summary(folder, summary)
    lines = table1_page.reading_page(folder).splitlines()
    header = cells(lines, "method")
    column = header.index("lowest AUROC, mnist")
    assert cells(lines, "Softmax threshold")[column] == "90.00"


def test_command_writes_all_pages_and_then_finds_no_difference(root, capsys):
    with pytest.raises(
        ValueError, match=r"README\.md.*docs/results\.md.*write_results"
    ):
        run("--check")
    assert not pathlib.Path("docs").exists()
    run()
    assert set(capsys.readouterr().out.split()) == {
        "README.md",
        "docs/results.md",
        "docs/published_table.md",
        "docs/reading_results.md",
    }
    run("--check")
    page = pathlib.Path("README.md")
    page.write_text(page.read_text().replace("19 of 70", "20 of 70"))
    with pytest.raises(ValueError, match=r"^README\.md does not say"):
        run("--check")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "found 0 of the first kind"),
        ("<!-- results: results/table1 -->\n", "found 1 of the first kind and 0"),
        ("<!-- results: results/no -->\n<!-- end -->", "results/no holds no results"),
    ],
)
def test_wrong_markers_teach(root, text, message):
    with pytest.raises(ValueError, match=message):
        write_results.insert_results(text)


def test_pictures_are_drawn_from_what_is_there_and_shown(root, capsys):
    study, images = root / "results/table1", root / "docs/images"
    assert table1_pictures.draw(study, images) == []
    made_up_study.write_scores(study)
    made_up_study.write_scores(study, method="two", training="two")
    made_up_study.write_scores(study, method="without_block", training="without_block")
    (study / "mnist/without_block/seed_0/examples.npz").unlink()
    made_up_study.write_scores(study, method="paper", training="paper")
    run("--pictures")
    names = {path.name for path in images.iterdir()}
    assert names == {
        "results_mnist_ours_roc.png",
        "results_mnist_ours_density.png",
        "results_mnist_ours_grid.png",
        "results_mnist_ours_mistakes.png",
        "results_mnist_without_block_roc.png",
        "results_mnist_without_block_density.png",
        "results_mnist_features.png",
        "results_paper_recipe.png",
    }
    page = pathlib.Path("docs/results.md").read_text()
    for name in names:
        assert f"](images/{name})" in page


def test_findings_are_made_of_the_numbers(root):
    folder = pathlib.Path("results/table1")
    summary = json.loads((folder / "summary.json").read_text())
    cells = summary["results"]["mnist"]["ours"]
    cells["uniform_noise"] = made_up_study.unknown_cells([0.25, 0.25])
    changed = summary["results"]["mnist"]["without_block"]
    # Student's t with one degree of freedom, 97.5 %, for one more after two seeds.
    reach = 12.7062 * math.sqrt(1.5) * cells["kmnist"]["auroc"]["std"]
    changed["kmnist"]["auroc"]["mean"] = 0.9975 - 1.01 * reach
    changed["emnist/letters"] = cells["emnist/letters"]
    # The seeds of ours agree to the last digit, so any other value is a change.
    changed["uniform_noise"] = made_up_study.unknown_cells([0.24])
    summary["against_paper"]["ours_distances"] = {
        **summary["against_paper"]["ours"],
        "met": 7,
    }
    text = findings_of(folder, summary)
    assert "* mnist, Ours: 75.00 % of uniform_noise" in text
    assert "* Ours: 19 without, 7 with them" in text
    extra = {**summary["against_paper"]["ours_synthetic"], "met": 4}
    summary["against_paper"]["extra_class"] = extra
    summary["methods"]["extra_class"] = summary["methods"]["ours_synthetic"]
    summary["seeds"]["mnist"]["extra_class"] = [0]
    pair = "Ours + synthetic: 4 of 15 (1 seed); Ours: 19 of 20 (seeds: mnist 2, "
    assert f"{pair}fashion_mnist 1)" in findings_of(folder, summary)
    assert "without a real unknown image" not in text
    expected = f"kmnist {-101 * reach:+.3f}, uniform_noise -1.000"
    assert f"* Without the block: {expected}\n" in text
    changed["kmnist"]["auroc"]["mean"] = 0.9975 - 0.99 * reach
    changed["uniform_noise"] = cells["uniform_noise"]
    summary["trainings"]["plain"]["exposure"] = []
    text = findings_of(folder, summary)
    assert "Without the block" not in text
    best = "ODIN (1 seed) separates them best, with an AUROC of 92.00 %; on uniform_"
    assert f"{best}noise it has 97.00 %" in " ".join(text.split())
