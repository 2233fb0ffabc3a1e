"""Measures what noise, attacks and renderings of test images do to trained runs."""

import pathlib
from collections.abc import Sequence

from ood_keras import calibration, pipelines
from ood_keras.evaluation import (
    figures,
    page,
    rendering_figures,
    robustness,
    style,
    under_renderings,
)
from ood_keras.files import atomic_file, write_json
from ood_keras.types import Json, Path
from ood_keras.workflows import evaluation, run_data, run_record

_DETECTORS = ("unknown_probability", "msp", "energy")


def measure_robustness(
    *,
    run_dirs: Sequence[Path],
    unknown: Sequence[str],
    output: Path,
    data_dir: Path | None = None,
    detectors: Sequence[str] | None = None,
    num_images: int = 2000,
    renderings: under_renderings.Extent = "full",
) -> Json:
    """Measures what perturbed and rendered images do to runs, side by side.

    Noise and attacks change the known images alone; renderings, changes that keep what
    an image shows, known and unknown ones alike. Thresholds accept 95 % of the known
    validation images.

    Args:
        run_dirs: Finished runs on the same known source, such as two whose networks
            differ by the block.
        unknown: Specs of the unknown test sources.
        output: Receives `robustness.json`, `curves.png`, `densities.png` and
            `inputs.png`, and of renderings `renderings.png` (the first run's) and, of
            the full suite, `rendering_curves.png`.
        data_dir: The folder of the data sets; default: the first run's.
        detectors: Names of the detectors; densities and inputs are those of the first.
            `None` is "msp" and "energy", and before them "unknown_probability" where
            all networks have an unknown class.
        num_images: How many test images of each source to take; of renderings, at most
            as many as `under_renderings.measure` takes.
        renderings: How much to measure of renderings: "none", "short" or "full".

    Returns:
        The content of `robustness.json`: `{"known", "networks": {TITLE: {"run", "seen",
        "detectors", "renderings"}}, "target_acceptance", "data", "versions"}`, with
        "renderings" as of `under_renderings.UnderRenderings.at`, "known" and
        "detectors" as in `evaluation.robustness.Robustness.metrics`; "seen" lists the
        unknown sources that training was shown, "data" what identifies the images.

    Raises:
        FileNotFoundError: a run is not finished.
        ValueError: the runs have different known sources, or are alike.
    """
    settings = {
        str(run_dir): run_data.read_settings(pathlib.Path(run_dir))
        for run_dir in run_dirs
    }
    first = next(iter(settings.values()))
    if len({one["known"] for one in settings.values()}) > 1:
        raise ValueError(
            "runs are compared on the same known images. Received: "
            + ", ".join(f"{name} on {one['known']}" for name, one in settings.items())
        )
    titles = {
        name: style.BLOCKS[one["recipe"]["block"]] for name, one in settings.items()
    }
    if len(set(titles.values())) < len(run_dirs):
        titles = _endings(run_dirs)
    known = run_data.load_known(first, data_dir or first["data_dir"])
    sources = run_data.load_unknown(
        unknown, known, data_dir or first["data_dir"], recorded=first
    )
    tests = {spec: source.test for spec, source in zip(unknown, sources, strict=True)}
    for one in settings.values():
        shown = run_data.load_shown(one, known, data_dir or one["data_dir"])
        pipelines.check_roles(
            known={
                "train": known.train,
                "validation": known.validation,
                "test": known.test,
            },
            unknown={"train": shown, "test": list(tests.values())},
        )

    def some(split):
        return split.take(min(num_images, len(split)))

    known_test = some(known.test)
    tests = {spec: some(split) for spec, split in tests.items()}
    if detectors is None:
        trained = [one["recipe"] for one in settings.values()]
        detectors = evaluation.usual_detectors(
            trained, _DETECTORS, num_classes=known.num_classes
        )
    measured, rendered = {}, {}
    for run_dir, title in titles.items():
        model = run_record.load_model(run_dir)
        trained_with = settings[run_dir]["recipe"]
        objectosphere_on = evaluation.objectosphere_on(trained_with)
        recipe = run_data.read_evaluated_recipe(
            pathlib.Path(run_dir), settings[run_dir]
        )
        fitting, judging = run_data.render(recipe, [known.train, known.validation])
        fitted = {
            name: evaluation.fit_detector(
                name,
                model,
                fitting.dataset(),
                known.num_classes,
                objectosphere_on=objectosphere_on,
                features=evaluation.distances_on(trained_with, known.num_classes),
            )
            for name in detectors
        }
        thresholds = {
            name: calibration.choose(detector.score(judging.dataset()))
            for name, detector in fitted.items()
        }
        measured[title] = robustness.evaluate(
            fitted,
            thresholds,
            known=(first["known"], known_test.dataset()),
            unknown={spec: split.dataset() for spec, split in tests.items()},
            class_names=first["class_names"],
        )
        if renderings != "none":
            short = renderings == "short"
            limit = under_renderings.NUM_IMAGES[renderings]
            found = under_renderings.measure(
                fitted,
                known=(first["known"], known_test.dataset()),
                unknown={spec: split.dataset() for spec, split in tests.items()},
                short=short,
                num_images=min(num_images, limit),
            )
            rendered[title] = found, found.at(thresholds)
    networks = {
        titles[run_dir]: {
            "run": {
                "recipe": one["recipe"]["name"],
                "block": one["recipe"]["block"],
                "seed": one["seed"],
                "unknown": one["unknown"],
            },
            "seen": run_data.find_seen(unknown, one["unknown"]),
            "detectors": measured[titles[run_dir]].metrics["detectors"],
            **(
                {"renderings": rendered[titles[run_dir]][1]}
                if renderings != "none"
                else {}
            ),
        }
        for run_dir, one in settings.items()
    }
    result = {
        "known": next(iter(measured.values())).metrics["known"],
        "networks": networks,
        "target_acceptance": calibration.TARGET_ACCEPTANCE,
        "data": run_data.fingerprint(
            [known.train, known.validation, known_test, *tests.values()]
        ),
        "versions": page.versions(),
    }
    drawn = next(iter(measured.values())).figures()
    rows = {
        f"{row}, {title}" if len(measured) > 1 else row: pictured
        for title, one in measured.items()
        for row, pictured in one.pictures.items()
    }
    pictured = {
        "curves": figures.robustness(networks),
        "densities": drawn["robustness_density"],
        "inputs": figures.pictures(rows),
    }
    if renderings != "none":
        by_title = {
            title: one["detectors"][detectors[0]]
            for title, (_, one) in rendered.items()
        }
        found, _ = next(iter(rendered.values()))
        pictured["renderings"] = rendering_figures.acceptance(
            next(iter(by_title.values())), found.pictures
        )
        if renderings == "full":
            pictured["rendering_curves"] = rendering_figures.curves(by_title)
    output = pathlib.Path(output)
    for name, figure in pictured.items():
        with atomic_file(output / f"{name}.png") as path:
            figure.savefig(path)
    write_json(output / "robustness.json", result)
    return result


def describe(result: Json) -> str:
    """Says in lines what `measure_robustness` returned, of each run and detector."""
    lines = []
    for title, network in result["networks"].items():
        for name, measured in network["detectors"].items():
            worst = robustness.find_most_accepted_wrong(measured)
            lines.append(
                f"{title}, {name}: at most {100 * worst:.2f} % accepted and misread"
            )
        rendered = network.get("renderings", {"detectors": {}})["detectors"]
        for name, measured in rendered.items():
            lines += [
                f"{title}, {name}: {sentence}"
                for sentence in under_renderings.describe(measured)
            ]
    return "\n".join(lines)


def _endings(run_dirs: Sequence[Path]) -> dict[str, str]:
    """`{run_dir: the end of its path}`, as short as they still differ."""
    paths = [pathlib.Path(run_dir).resolve() for run_dir in run_dirs]
    if len(set(paths)) < len(paths):
        raise ValueError(
            "runs that are compared must be different ones. Received: "
            f"{[str(run_dir) for run_dir in run_dirs]}"
        )
    length = 1
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    return {
        str(run_dir): "/".join(path.parts[-length:])
        for run_dir, path in zip(run_dirs, paths, strict=True)
    }
