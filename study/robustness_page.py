"""What the docs say about robustness, from the files of `ood-robustness`."""

import json
import pathlib

from ood_keras.evaluation import figures, robustness, style
from ood_keras.study import markdown
from ood_keras.types import Json

# What Figures 2 and 3 of the paper show.
_PAPER = (
    ("gaussian_noise", 0.0, "as they are"),
    ("gaussian_noise", 1.0, "under Gaussian noise of deviation 1"),
    ("fgsm", 0.1, "under FGSM at 0.1"),
)
# The paper names no number for "no drastic change in classification accuracy".
_HARDLY = 0.05
# Nor for "can differentiate".
_TOLD_APART = 0.9


def page(folder: pathlib.Path) -> str:
    """Returns the text of `docs/robustness.md`.

    Args:
        folder: `pathlib.Path` with a folder for each known source, as the page should
            name it from the repository's root.
    """
    lines = [
        "# Robustness: noise and attacks on known images",
        "",
        "<!-- Written by `python -m ood_keras.study.write_results` from "
        f"{folder}; do not edit. -->",
        "",
        "Section 3.4 of the paper adds white noise, Gaussian noise and FGSM to known "
        "test images. It reports that noise hardly changes the accuracy, and that FGSM "
        "above epsilon 0.1 costs accuracy while known and unknown can still be told "
        "apart. Here are the curves, with PGD in ten steps. Unknown images stay as "
        "they are. The attacks know the classifier and make it err; they do not aim at "
        "the detector, and an attacker who does may do more damage than is shown. "
        "Strengths are in units of the pixel range: half the width of the white noise, "
        "the deviation of the Gaussian, epsilon of the attacks. A known image that is "
        "misread does no harm where it is rejected: watch the share that is accepted "
        "with a wrong class. Each network is one run, and two runs may differ by as "
        "much as what they are compared for. AUROC ranks the *perturbed* known images "
        "against unknown ones: it falls where a detector rejects ruined images, as it "
        "should, and is high where it accepts them.",
        "",
    ]
    for path in sorted(folder.glob("*/robustness.json")):
        result = json.loads(path.read_text())
        place = f"../{path.parent}"
        known = result["known"]
        lines += [f"## Known: {known['source']}", "", _protocol(result), ""]
        lines += [_command(result, path.parent), ""]
        for name, text in (
            ("curves", "Accuracy, rejection and AUROC over the strength"),
            ("inputs", "What the network was shown, and the first detector's answers"),
            (
                "densities",
                "Confidence and score of known images as they are and perturbed, as in "
                "Figure 3 of the paper, which shows Gaussian noise of deviation 1 and "
                "FGSM at 0.1",
            ),
        ):
            if (path.parent / f"{name}.png").is_file():
                lines += [f"![{text}]({place}/{name}.png)", "", f"*{text}*", ""]
        lines += _tables(result)
    return "\n".join(lines).rstrip() + "\n"


def _tables(result: Json) -> list[str]:
    """A table for each network: the first detector whole, AUROC of the others."""
    lines = []
    for title, network in result["networks"].items():
        detectors = network["detectors"]
        first, *others = detectors
        rows = []
        for name, points in detectors[first]["perturbations"].items():
            for index, point in enumerate(points):
                shares = point["known"]
                row = [style.title(name), f"{point['strength']:g}"]
                row += [
                    markdown.percent(shares[key])
                    for key in ("accuracy", "rejected", "accepted_wrong")
                ]
                row += [
                    markdown.percent(
                        figures.mean_auroc(
                            detectors[detector]["perturbations"][name][index],
                            network["seen"],
                        )
                    )
                    for detector in (first, *others)
                ]
                rows.append(row)
        header = ["perturbation", "strength", "accuracy", "rejected"]
        header += ["accepted with a wrong class"]
        header += [f"AUROC, {detector}" for detector in detectors]
        rejected_shares = detectors[first]["unknown_rejected"]
        rejected = ", ".join(
            f"{source}{' (seen)' * (source in network['seen'])} "
            f"{markdown.percent(share)}"
            for source, share in rejected_shares.items()
        )
        unseen = [s for s in rejected_shares if s not in network["seen"]]
        worst = ", ".join(
            f"{markdown.percent(robustness.most_accepted_wrong(measured))} % by "
            f"`{name}`"
            for name, measured in detectors.items()
        )
        which = "sources that training was not shown" if unseen else "sources"
        lines += [
            f"### {result['known']['source']}: network {title}",
            "",
            *_at_the_papers_strengths(
                first, detectors[first]["perturbations"], network["seen"]
            ),
            f"Of all perturbations and strengths, the most that is accepted with a "
            f"wrong class: {worst}.",
            "",
            f"In percent; rejection by `{first}`. AUROC is the mean over the unknown "
            f"{which}. Of the unknown sources, the same threshold rejects: {rejected}.",
            "",
            *markdown.table(header, rows),
            "",
        ]
    return lines


def _at_the_papers_strengths(detector, perturbations, seen):
    """Sentences beside what section 3.4 says about its two perturbations."""
    found, accuracies, aurocs = [], [], []
    for name, strength, text in _PAPER:
        for point in perturbations.get(name, ()):
            if point["strength"] == strength:
                known = point["known"]
                accuracies.append(known["accuracy"])
                aurocs.append(figures.mean_auroc(point, seen))
                found.append(
                    f"{text}: {markdown.percent(known['accuracy'])} % are classified "
                    f"correctly, {markdown.percent(known['rejected'])} % rejected and "
                    f"{markdown.percent(known['accepted_wrong'])} % accepted with a "
                    "wrong class"
                )
    if len(found) < len(_PAPER):
        return []
    clean, noisy, _ = accuracies
    shown = "" if noisy > clean - _HARDLY else "not "
    attacked = aurocs[-1]
    can = "can still" if attacked > _TOLD_APART else "can no longer"
    order = ": they look more unknown than unknown ones" * (attacked < 0.5)
    return [
        f"Of the known images, {'; '.join(found)}. That Gaussian noise hardly changes "
        f"the accuracy is {shown}what is found here. Known images under FGSM at 0.1 "
        f"{can} be told from unknown ones (AUROC of `{detector}` "
        f"{markdown.percent(attacked)} %; we ask for {100 * _TOLD_APART:g} %){order}.",
        "",
    ]


def _protocol(result: Json) -> str:
    runs = []
    for title, network in result["networks"].items():
        run = network["run"]
        shown = ", ".join(run["unknown"]) or "nowhere"
        runs.append(
            f"{title}: recipe `{run['recipe']}`, seed {run['seed']}, trained with "
            f"unknowns from {shown}"
        )
    versions = ", ".join(f"{name} {v}" for name, v in result["versions"].items())
    return (
        f"{result['known']['images']:,} test images. Networks {'; '.join(runs)}. "
        f"Thresholds accept {100 * result['target_acceptance']:g} % of the known "
        f"validation images as they are. {versions}."
    )


def _command(result: Json, folder: pathlib.Path) -> str:
    """What measures it again, on runs of one's own."""
    detectors = next(iter(result["networks"].values()))["detectors"]
    unknown = next(iter(detectors.values()))["unknown_rejected"]
    second = " --compare_with=RUN" * (len(result["networks"]) > 1)
    return (
        f"Measured by `ood-robustness --run_dir=RUN{second} --unknown="
        f"{','.join(unknown)} --detectors={','.join(detectors)} "
        f"--num_images={result['known']['images']} --output={folder}`."
    )
