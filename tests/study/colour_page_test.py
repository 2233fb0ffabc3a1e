"""The study `colour` and its page; the numbers on the page are invented."""

import pytest

from ood_keras.study import colour, colour_page, colour_pictures
from ood_keras.study.colour import (
    BASELINE,
    CIFAR10,
    COLOUR,
    DEVELOPMENT,
    FAR,
    NEAR,
    NOISE,
)
from ood_keras.study.records import Records

OURS = "ours_unknown_probability"
OTHER = "unknown_class_logit_norm_pixmix_msp"
DIGITS = [known.name for known in COLOUR.known if known.name.startswith("mnist")]
FIRST_OF_OURS = {DEVELOPMENT: {OURS: 0.7, OTHER: 0.6}}


def write(
    folder, aurocs, *, accuracy=None, validation=None, digits=(), splits=FIRST_OF_OURS
):
    """Results of `{method: {seed: (near, far)}}`, and of ours on splits of digits.

    And of `{split: {method: auroc}}`.
    """
    methods = {
        name: {
            "title": method.title,
            "training": training.name,
            "group": training.group,
        }
        for name, (method, training) in COLOUR.methods.items()
    }
    sets = {known.name: known.test_unknown for known in COLOUR.known}
    measured = [
        (CIFAR10, method, seed, {NEAR: near, **dict.fromkeys((*FAR, *NOISE), far)})
        for method, seeds in aurocs.items()
        for seed, (near, far) in seeds.items()
    ]
    measured += [
        (known, OURS, 0, {sets[known][0]: value})
        for known, value in zip(DIGITS, digits, strict=False)
    ]
    measured += [
        (known, method, 0, {sets[known][0]: value})
        for known, of_methods in splits.items()
        for method, value in of_methods.items()
    ]
    measurements, renderings, classes, done = [], [], [], {}
    for known, method, seed, by_unknown in measured:
        training = methods[method]["training"]
        done[known, training, seed] = (accuracy or {}).get(method, 0.75)
        measurements += [
            {
                "known": known,
                "method": method,
                "unknown": unknown,
                "seed": seed,
                "seen": unknown in NOISE and method != BASELINE,
                "auroc": value,
                "fpr95_known_positive": 1 - value,
                "auroc_mild": value,
                "auroc_full_spectrum": value - 0.1,
            }
            for unknown, value in by_unknown.items()
        ]
        renderings.append(
            {
                "known": known,
                "method": method,
                "seed": seed,
                "target_acceptance": 0.99,
                "accepted": 0.99,
                "accepted_mild": 0.98,
                "accepted_worst": 0.9,
                "worst_step": "blur",
                "accuracy_mild": 0.7,
                "accuracy_worst": 0.6,
                "validation_auroc": 0.9,
                "validation_fpr95_known_positive": (validation or {}).get(method, 0.5),
            }
        )
        classes += [
            {
                "known": known,
                "method": method,
                "unknown": NEAR,
                "class": name,
                "seed": seed,
                "images": 100,
                "accepted": share,
                "auroc": 0.5,
            }
            for name, share in (("bus", 0.9), ("wolf", 0.3 + seed / 10))
        ]
    runs = []
    for run in COLOUR.runs():
        found = done.get((run.known.name, run.training.name, run.seed))
        runs.append(
            {
                "run": run.name,
                "known": run.known.name,
                "training": run.training.name,
                "seed": run.seed,
                "status": "missing" if found is None else "finished",
                "accuracy": found,
            }
        )
        if found is not None:
            runs[-1]["minutes"] = {"training": 8.0 + run.seed, "evaluation": 2.0}
    about = {
        "study": "colour",
        "known": [known.name for known in COLOUR.known],
        "methods": methods,
        "trainings": {},
        "against_paper": False,
        "inconsistencies": [],
        "protocol": COLOUR.protocol,
        "versions": {},
        "machines": [{"processor": "made up", "cores": 2, "platform": "wood"}],
    }
    Records(about, runs, measurements, renderings, classes).write(folder)
    return folder


def row_of(page, start):
    line = next(line for line in page.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def title(method):
    return COLOUR.methods[method][0].title


BOTH = {BASELINE: {0: (0.80, 0.85)}, OURS: {0: (0.841, 0.91)}}


def test_goals_are_counted_against_msp(tmp_path):
    page = colour_page.page(write(tmp_path, BOTH, digits=[0.998] * 5), tmp_path)
    assert row_of(page, "near AUROC above that of MSP") == [
        "+4.00 or more",
        "+4.10",
        "yes",
    ]
    assert row_of(page, "far AUROC above that of MSP")[1:] == ["+6.00", "yes"]
    assert row_of(page, "accuracy above that of MSP")[1:] == ["+0.00", "yes"]
    digits = row_of(page, "mean AUROC on digits, six of ten known (5 of 5 splits)")
    assert digits[1:] == ["99.80", "yes"]


@pytest.mark.parametrize(
    ("aurocs", "accuracy", "digits", "row"),
    [
        ((0.8399, 0.91), 0.75, [0.998] * 5, "near AUROC above that of MSP"),
        ((0.841, 0.8999), 0.75, [0.998] * 5, "far AUROC above that of MSP"),
        ((0.841, 0.91), 0.7499, [0.998] * 5, "accuracy above that of MSP"),
        ((0.841, 0.91), 0.75, [0.9] + [0.998] * 4, "mean AUROC on digits, six of ten "
         "known (5 of 5 splits)"),
        ((0.841, 0.91), 0.75, [0.998] * 4, "mean AUROC on digits, six of ten known (4 "
         "of 5 splits)"),
    ],
)  # fmt: skip
def test_a_goal_that_is_missed_is_said(tmp_path, aurocs, accuracy, digits, row):
    found = {**BOTH, OURS: {0: aurocs}}
    folder = write(tmp_path, found, accuracy={OURS: accuracy}, digits=digits)
    assert row_of(colour_page.page(folder, tmp_path), row)[-1] == "no"


def test_training_images_choose_whatever_the_others_say(tmp_path):
    found = {**BOTH, OTHER: {0: (0.99, 0.99)}}
    splits = {
        DEVELOPMENT: {OURS: 0.71, OTHER: 0.70},
        "cifar10_split_2": {OURS: 0.61, OTHER: 0.95},
    }
    page = colour_page.page(
        write(tmp_path, found, validation={OTHER: 0.0}, splits=splits), tmp_path
    )
    assert f"choose **{title(OURS)}**" in page
    assert row_of(page, "near AUROC above that of MSP")[1] == "+4.10"
    choosing, _, others = page.partition("known, which choose")[2].partition(
        "## CIFAR-10, six of ten classes known"
    )
    assert row_of(choosing, title(OURS))[:2] == ["1", "71.00"]
    assert row_of(others, title(OURS))[:2] == ["1", "61.00"]


def test_nothing_is_compared_before_the_choice_is_measured(tmp_path):
    splits = {DEVELOPMENT: {OTHER: 0.8, OURS: 0.7}}
    page = colour_page.page(write(tmp_path, BOTH, splits=splits), tmp_path)
    assert f"choose **{title(OTHER)}**" in page
    assert "What we wanted" not in page and "Which near classes" not in page


def test_there_are_no_empty_tables_before_all_of_cifar10(tmp_path):
    page = colour_page.page(write(tmp_path, {}), tmp_path)
    for title in ("near and far", "In other renderings", "What a training takes"):
        assert f"## {title}" not in page and f": {title}" not in page
    assert "known, which choose" in page


def test_validation_images_choose_on_digits(tmp_path):
    other = "ours_energy"
    splits = {**FIRST_OF_OURS, DIGITS[0]: {OURS: 0.998, other: 0.999, BASELINE: 1.0}}
    page = colour_page.page(
        write(tmp_path, BOTH, validation={OURS: 0.1, BASELINE: 0.0}, splits=splits),
        tmp_path,
    )
    row = row_of(page, "mean AUROC on digits, six of ten known (1 of 5 splits)")
    assert row[1:] == ["99.80", "no"]


def test_numbers_are_means_over_seeds_and_far_sets(tmp_path):
    seeds = {0: (0.80, 0.90), 1: (0.82, 0.92)}
    page = colour_page.page(write(tmp_path, {BASELINE: seeds}), tmp_path)
    row = row_of(page, title(BASELINE))
    # By hand: the deviation of two numbers 2 apart is the root of 2.
    assert row[:4] == ["2", "75.00 ± 0.00", "81.00 ± 1.41", "91.00 ± 1.41"]
    assert row[4:] == ["19.00 ± 1.41", "9.00 ± 1.41"]
    assert "| closed_set | 8.5 | 2.0 |" in page
    assert "71.00 | 81.00 |" in page  # Over renderings, 10 points lower.
    assert "What we wanted" not in page
    assert "No training with an unknown class stands beside" in page


def test_seen_noise_is_marked_and_near_classes_are_sorted(tmp_path):
    found = {BASELINE: {0: (0.8, 0.85)}, OURS: {0: (0.84, 0.91), 1: (0.84, 0.91)}}
    page = colour_page.page(write(tmp_path, found), tmp_path)
    assert "| 91.00 ± 0.00\\* |" in page
    near = page.partition("## Which near classes")[2]
    assert row_of(near, "bus") == ["90.00", "90.00"]
    assert row_of(near, "wolf") == ["35.00", "30.00"]
    assert near.index("| bus |") < near.index("| wolf |")


def test_what_is_not_run_is_said(tmp_path):
    page = colour_page.page(write(tmp_path, BOTH), tmp_path)
    missing = len(COLOUR.runs()) - 4
    assert f"Not run yet, {missing} of {len(COLOUR.runs())} runs" in page
    line = next(x for x in page.splitlines() if x.startswith("* cifar10, seed 0"))
    names = line.partition(": ")[2].split(", ")
    assert "closed_set_pixmix" in names and not {"closed_set", "ours"} & set(names)
    assert "six of ten known |" not in page and "## Digits" not in page
    digits = "; ".join(f"{name}, seed 0" for name in DIGITS)
    assert f"* {digits}: closed_set, ours, unknown_class\n" in page
    assert "No training with an unknown class" not in page


def test_the_picture_is_drawn_and_shown(tmp_path):
    folder = write(tmp_path / "results", BOTH)
    images = tmp_path / "images"
    images.mkdir()
    assert "](images/" not in colour_page.page(folder, images)
    (path,) = colour_pictures.draw(folder, images)
    assert path.stat().st_size > 5000
    assert f"](images/{path.name})" in colour_page.page(folder, images)


def test_six_classes_are_known_and_the_other_four_unknown():
    for known in COLOUR.known:
        if "split" not in known.name and known.name != DEVELOPMENT:
            continue
        (unknown,) = known.test_unknown
        source, rest = known.spec.rstrip("]").split("[")
        assert unknown.startswith(f"{source}[")
        others = unknown.rstrip("]").split("[")[1].split(",")
        assert len(rest.split(",")) == 6 and len(others) == 4
        assert {*rest.split(","), *others} == {*map(str, range(10))}
    assert len({known.spec for known in COLOUR.known}) == 17


def test_no_image_that_chooses_is_tested_elsewhere():
    for known in COLOUR.known:
        for spec in (known.spec, *known.test_unknown):
            alone = spec.startswith("cifar10@training_images[")
            assert alone == (known.name == DEVELOPMENT)


def test_every_training_has_the_epochs_of_its_known_set():
    longer = "closed_set_longer"
    for run in COLOUR.runs():
        times = 2 if run.training.name == longer else 1
        assert run.recipe.epochs == run.known.recipe.epochs * times
        assert set(run.training.exposure) <= {"synthetic"}
        shown = run.recipe.objective.shows_unknown
        assert shown == bool(run.training.exposure), run.name
        assert (run.recipe.block == "modified_se") == (
            run.training.group == "ours" or run.training.name == "closed_set_block"
        )


def test_what_says_most_is_run_first():
    names = [run.name for run in COLOUR.runs()]
    assert names[:3] == [
        "cifar10/closed_set/seed_0",
        "cifar10/unknown_class_logit_norm_pixmix/seed_0",
        "cifar10/ours/seed_0",
    ]
    development = [name for name in names if name.startswith(DEVELOPMENT)]
    # All that can be chosen, and before most is measured.
    assert names[4 : 4 + len(development)] == development
    chosen_among = {
        one.name for one in COLOUR.trainings if one.group in ("unknown class", "ours")
    }
    assert {name.split("/")[1] for name in development} == chosen_among
    seeds = [run.seed for run in COLOUR.runs() if run.known.name == CIFAR10]
    assert {seeds.count(seed) for seed in (0, 1, 2)} == {len(colour.COLOUR.trainings)}
