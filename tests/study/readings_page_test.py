"""The page of the study `readings`; numbers are invented."""

import pytest

from ood_keras.study import grid, readings_page, summary
from ood_keras.study.readings import AS_DISTRIBUTED, INVERTED, READINGS
from ood_keras.study.records import Records

METHOD = "ours_synthetic_log_distances"


def perfect():
    """A cell that meets whatever the paper has."""
    return {
        name: 0.0 if "error" in name or name.startswith("fpr") else 1.0
        for name in summary.PAPER_METRICS
    }


def poor():
    return {name: 1 - value for name, value in perfect().items()}


def write(folder, values, known=("mnist", "fashion_mnist"), seeds=(0, 1, 2)):
    """Results of one method, `{unknown: cells}`, the same on each known set."""
    runs, measurements, renderings = [], [], []
    for spec in known:
        for seed in seeds:
            runs.append(
                {
                    "run": f"{spec}/ours_synthetic/seed_{seed}",
                    "known": spec,
                    "training": "ours_synthetic",
                    "seed": seed,
                    "status": "finished",
                    "accuracy": 0.95,
                }
            )
            (of_known,) = (one for one in READINGS.known if one.spec == spec)
            measurements += [
                {
                    "known": spec,
                    "method": METHOD,
                    "unknown": unknown,
                    "seed": seed,
                    "seen": False,
                    **values.get(unknown, perfect()),
                    "auroc_mild": 0.98,
                    "auroc_full_spectrum": 0.9765,
                }
                for unknown in of_known.test_unknown
            ]
            renderings.append(
                {
                    "known": spec,
                    "method": METHOD,
                    "seed": seed,
                    "target_acceptance": 0.99,
                    "accepted": 0.9912,
                    "accepted_mild": 0.95 + seed / 100,
                    "accepted_worst": 0.9,
                    "worst_step": "blur, sigma 0.5 px",
                    "accuracy_mild": 0.9876,
                    "accuracy_worst": 0.9,
                }
            )
    about = {
        "study": "readings",
        "known": [one.spec for one in READINGS.known],
        "methods": {
            name: {
                "title": method.title,
                "training": training.name,
                "group": training.group,
                "detector": method.detector,
                "description": method.description,
            }
            for name, (method, training) in READINGS.methods.items()
        },
        "trainings": {},
        "inconsistencies": [],
        "protocol": READINGS.protocol,
        "versions": {},
        "machines": [{"processor": "P", "cores": 2, "platform": "Linux x86_64"}],
    }
    Records(about, runs, measurements, renderings).write(folder)
    return folder


def test_each_reading_counts_its_own_omniglot(tmp_path):
    page = readings_page.page(write(tmp_path, {INVERTED: poor()}))
    # Five cells of each known set's Omniglot row are lost with it inverted.
    assert "Omniglot as distributed: the best method meets 70 of 70 cells" in page
    assert "Omniglot inverted: the best method meets 60 of 70 cells" in page
    assert "62 were the goal, which is not reached" in page
    assert "| 70 of 70 ✓ | 60 of 70 ✗ |" in page


def test_inverted_alone_is_good(tmp_path):
    page = readings_page.page(write(tmp_path, {AS_DISTRIBUTED: poor()}))
    assert "| 60 of 70 ✗ | 70 of 70 ✓ |" in page


def test_one_known_set_reaches_no_goal(tmp_path):
    page = readings_page.page(write(tmp_path, {}, known=("mnist",), seeds=(0,)))
    assert "the best method" not in page
    assert "| 35 of 35 | 35 of 35 |" in page
    assert "## Known: fashion_mnist" not in page


def test_numbers_over_renderings_are_beside_those_untouched(tmp_path):
    page = readings_page.page(write(tmp_path, {}))
    assert "emnist/letters: untouched | emnist/letters: all" in page
    assert "100.00 | 97.65" in page
    # Means over three seeds.
    assert "| 99.12 | 96.00 | 90.00 | 98.76 |" in page


def test_validation_images_choose_the_score(tmp_path):
    folder = write(tmp_path, {}, known=("mnist",))
    assert "What validation images choose" not in readings_page.page(folder)
    found = Records.read(folder)
    renderings = [
        {
            **row,
            "method": method,
            "validation_auroc": auroc,
            "validation_fpr95_known_positive": fpr95,
        }
        for row in found.renderings[1:]  # The first seed did not note it.
        for method, fpr95, auroc in (
            ("ours_synthetic", 0.02, 0.999),
            ("ours_synthetic_distances", 0.01, 0.997),
            (METHOD, 0.01, 0.998),
            ("robust", 0.05, 0.98),
        )
    ]
    Records(
        found.about, found.runs, found.measurements, renderings, found.classes
    ).write(folder)
    page = readings_page.page(folder)
    table = page.partition("What validation images choose")[2].partition("###")[0]
    title = READINGS.methods[METHOD][0].title
    assert f"| {title} | 2 | 1.00 | 99.80 | chosen |" in table
    assert table.count("chosen") == 2  # The other is the only one of its training.


def test_every_training_has_three_seeds_on_each_known_set():
    names = {run.name for run in READINGS.runs()}
    assert len(names) == 2 * 2 * 3
    assert "fashion_mnist/robust/seed_2" in names


def test_the_robust_training_takes_the_recipe_of_its_known_set():
    recipes = {
        run.known.spec: run.recipe
        for run in READINGS.runs()
        if run.training.name == "robust"
    }
    assert recipes["mnist"].augment == "random_rendering"
    assert recipes["fashion_mnist"].augment == "random_photo_rendering"


def test_a_recipe_is_needed_for_each_known_set():
    (robust,) = (one for one in READINGS.trainings if one.name == "robust")
    run = grid.Run(
        known=grid.Known(
            spec="kmnist",
            exposure="mnist",
            test_unknown=("mnist",),
            recipe=READINGS.known[0].recipe,
        ),
        training=robust,
        seed=0,
    )
    with pytest.raises(ValueError, match=r"'robust'.*'kmnist'.*mnist, fashion_mnist"):
        assert run.recipe
