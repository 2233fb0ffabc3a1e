"""The page of the study `scanner`; numbers are invented."""

import pytest

from ood_keras.study import scanner_page
from ood_keras.study.records import Records
from ood_keras.study.scanner import RENDERED, SCANNER

OURS, PLAIN = f"ours{RENDERED}", f"no_block{RENDERED}"


def write(folder, full, seeds=(0, 1, 2), letters=()):
    """Results of `{method: {seed: AUROC over all renderings}}`."""
    methods = {
        name: {"title": method.title} for name, (method, _) in SCANNER.methods.items()
    }
    measurements, renderings = [], []
    for method, of_seeds in full.items():
        for seed, auroc in of_seeds.items():
            measurements.append(
                {
                    "known": "mnist",
                    "method": method,
                    "unknown": "emnist/letters",
                    "seed": seed,
                    "seen": True,
                    "auroc": 0.9999,
                    "auroc_mild": auroc,
                    "auroc_full_spectrum": auroc,
                }
            )
            renderings.append(
                {
                    "known": "mnist",
                    "method": method,
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
    classes = [
        {
            "known": "mnist",
            "method": method,
            "unknown": "emnist/letters",
            "class": name,
            "seed": 0,
            "images": images,
            "accepted": accepted,
            "auroc": 1 - accepted / 2,
        }
        for method in full
        for name, images, accepted in letters or [("O", 1, 0.5), ("A", 1, 0.5)]
    ]
    runs = [
        {
            "run": f"mnist/{training.name}/seed_0",
            "known": "mnist",
            "training": training.name,
            "seed": 0,
            "status": "finished"
            if any(method.name in full for method in training.methods)
            else "missing",
            "accuracy": None,
        }
        for training in SCANNER.trainings
    ]
    about = {
        "study": "scanner",
        "known": ["mnist"],
        "methods": methods,
        "trainings": {},
        "inconsistencies": [],
        "protocol": SCANNER.protocol,
        "versions": {},
        "machines": [{"processor": "made up", "cores": 2, "platform": "wood"}],
    }
    Records(about, runs, measurements, renderings, classes).write(folder)
    return folder


def row_of(page, start):
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


def test_the_block_is_worth_what_three_seeds_say(tmp_path):
    full = {
        OURS: {0: 0.98, 1: 0.981, 2: 0.982},
        PLAIN: {0: 0.97, 1: 0.97, 2: 0.97},
    }
    page = scanner_page.page(write(tmp_path, full))
    # By hand: mean 1.1, deviation 0.1, t(2, 97.5 %) = 4.303, so 1.1 -+ 0.248.
    row = row_of(page, "AUROC, emnist/letters")
    assert row == ["+1.00", "+1.10", "+1.20", "+0.85 to +1.35"]
    assert "leaves 0 out for AUROC, emnist/letters: the block helps there" in page
    harmful = scanner_page.page(write(tmp_path, {OURS: full[PLAIN], PLAIN: full[OURS]}))
    assert "the block harms there" in harmful


def test_differences_that_change_sign_are_none(tmp_path):
    full = {
        OURS: {0: 0.98, 1: 0.97, 2: 0.98},
        PLAIN: {0: 0.97, 1: 0.98, 2: 0.98},
    }
    page = scanner_page.page(write(tmp_path, full))
    assert "Every 95 % interval holds 0: 3 seeds show no difference" in page


def test_one_seed_decides_nothing(tmp_path):
    page = scanner_page.page(write(tmp_path, {OURS: {0: 0.9}, PLAIN: {0: 0.8}}))
    assert "1 of 3 seeds: too few to say" in page
    only = scanner_page.page(write(tmp_path, {OURS: {0: 0.9}}))
    assert "worth under renderings" not in only


def test_what_is_not_run_is_said(tmp_path):
    page = scanner_page.page(write(tmp_path, {OURS: {0: 0.9}}))
    assert f"{len(SCANNER.trainings) - 1} of {len(SCANNER.trainings)} runs" in page
    assert "mnist/cross_entropy/seed_0" in page
    assert "mnist/ours_rendered/seed_0" not in page
    assert "**As in Table 1**" not in page


def test_methods_are_means_over_their_seeds(tmp_path):
    full = {"ours": {0: 0.5, 1: 0.6}, "extra_class": {0: 0.75}}
    page = scanner_page.page(write(tmp_path, full))
    lines = [line for line in page.splitlines() if line.startswith("| Ours |")]
    assert lines[0] == "| Ours | 99.12 | 95.50 | 90.00 | 98.76 |"
    assert lines[1] == "| Ours | 99.99 | 55.00 |"
    assert "55.00 to 75.00 over all renderings" in page
    assert "ours: seeds 0, 1" in page and "extra_class: seed 0" in page


@pytest.mark.parametrize("swap", [False, True])
def test_letters_count_by_their_images(tmp_path, swap):
    letters = [("O", 1, 1.0), ("I", 3, 0.0), ("A", 2, 0.5), ("K", 2, 0.0)]
    letters = letters[::-1] if swap else letters
    page = scanner_page.page(write(tmp_path, {OURS: {0: 0.9}}, letters=letters))
    line = [line for line in page.splitlines() if line.startswith("| Ours, in")][-1]
    # By hand: 1 of 4, and 1 of 4.
    assert line == "| Ours, in renderings | 25.00 | 87.50 | 25.00 | 87.50 |"
