"""One run of a study in a process of its own; `study_engine` starts it.

The job comes as one line of JSON on the standard input, which stays open: when it ends,
the study has ended, however that came about, and so does this process.
"""

import json
import os
import pathlib
import platform
import sys
import threading
import time
from typing import Any


def work(
    job: dict[str, Any],
    data_dir: str | os.PathLike[str] | None,
    run_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
) -> None:
    """Trains and measures one run and writes its small files, `metrics.json` last.

    Args:
        job: What `study_grid.Run.job` returns.
        data_dir: The folder of the data sets.
        run_dir: Receives everything, weights too; a run that was begun there goes on.
        output_dir: Receives what is worth keeping; see `results/table1/README.md`.
    """
    from ood_keras import evaluation, files, workflows
    from ood_keras.study import other_families
    from ood_keras.training import recipes

    run_dir, output_dir = pathlib.Path(run_dir), pathlib.Path(output_dir)
    history = workflows.train(
        known=job["known"],
        unknown=job["unknown"],
        run_dir=run_dir,
        data_dir=data_dir,
        recipe=recipes.Recipe(**job["recipe"]),
        seed=job["seed"],
    )
    started = time.monotonic()
    detectors = list(job["methods"].values())
    renderings = job.get("renderings", "none")
    measure = {
        "run_dir": run_dir,
        "unknown": job["test_unknown"],
        "data_dir": data_dir,
        "validation_unknown": job["validation_unknown"],
    }
    if set(detectors) & set(other_families.NAMES):
        report: Any = other_families.evaluate(methods=detectors, **measure)
        configs = report.configs
    else:
        report = workflows.evaluate(
            detectors=detectors,
            tune=True,
            # What the pictures of the training show.
            selected_detector=detectors[0],
            renderings=renderings,
            **measure,
        )
        configs = {detector: _read_config(run_dir, detector) for detector in detectors}
    print(report, flush=True)
    method_of = {detector: method for method, detector in job["methods"].items()}
    run = json.loads((run_dir / "run.json").read_text(encoding="utf-8"))
    # Where the data lies says nothing to others; its fingerprints do.
    run["settings"].pop("data_dir")
    methods = {
        method: {"detector": detector, "config": configs[detector]}
        for method, detector in job["methods"].items()
    }
    minutes = {
        "training": sum(row["seconds"] for row in history) / 60,
        "evaluation": (time.monotonic() - started) / 60,
    }
    output_dir.mkdir(parents=True, exist_ok=True)
    (output_dir / "metrics.json").unlink(missing_ok=True)
    files.write_text(
        output_dir / "history.csv", (run_dir / "history.csv").read_text("utf-8")
    )
    files.write_json(
        output_dir / "run.json",
        {
            **job,
            "methods": methods,
            "run": run,
            "machine": _describe_machine(),
            "minutes": {name: round(value, 2) for name, value in minutes.items()},
        },
    )
    with files.atomic_file(output_dir / "scores.npz") as path:
        scores = _select_scores(report.scores, method_of)
        files.write_arrays(path, scores, compressed=True)
    if job["seed"] == 0 and isinstance(report, evaluation.Report):
        for method, detector in job["methods"].items():
            of_method = "" if detector == detectors[0] else f"_{method}"
            evaluation.record_examples(
                report, output_dir / f"examples{of_method}.npz", detector
            )
    metrics = report.metrics
    if isinstance(report, evaluation.Report):
        metrics = {**metrics, "validation": _measure_validation(report, method_of)}
    if renderings != "none":
        from ood_keras.study import shape

        metrics = {**metrics, "renderings": shape.summarise(report, method_of)}
        metrics["classes"] = shape.measure_classes(report, method_of, **measure)
    files.write_json(
        output_dir / "metrics.json",
        {
            **metrics,
            "detectors": {
                method_of[detector]: result
                for detector, result in metrics["detectors"].items()
            },
            "selected_detector": method_of[metrics["selected_detector"]],
        },
    )


def _measure_validation(
    report: Any, method_of: dict[str, str]
) -> dict[str, dict[str, float]]:
    """What the scores are worth on validation images, `{METHOD: metrics}`."""
    return {
        method: {
            name: float(report.validation_metrics[detector][name])
            for name in ("auroc", "fpr95_known_positive")
        }
        for detector, method in method_of.items()
    }


def _read_config(run_dir: pathlib.Path, detector: str) -> dict[str, Any]:
    saved = json.loads((run_dir / "detectors" / f"{detector}.json").read_text())
    return saved["config"]


def _select_scores(scores: dict[str, Any], method_of: dict[str, str]) -> dict[str, Any]:
    """The arrays to keep of `Report.scores`, by the names of the methods."""
    # Without a classifier there are no predictions.
    names = {"labels/known", "predictions/known"} & set(scores)
    kept = {name: scores[name] for name in sorted(names)}
    for name, array in scores.items():
        data, _, detector = name.rpartition("/")
        if data == "known" or (data.startswith("unknown/") and detector in method_of):
            kept[f"{data}/{method_of[detector]}"] = array
    return kept


def _describe_machine() -> dict[str, Any]:
    from ood_keras import machine

    return {
        "processor": machine.processor(),
        "cores": machine.num_cores(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _prepare(plugins: list[str], study_file: str | None) -> None:
    """Imports what registers the names of the job."""
    from ood_keras import plugins as plugin_room

    plugin_room.load(plugins)
    if study_file is not None:
        plugin_room.run_file(study_file)


def _end_with_the_study() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> None:
    """Reads the job, does it, and says in the last line what went wrong."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        _prepare(**request.pop("prepare"))
        work(**request)
    except Exception as error:
        import traceback

        traceback.print_exc(file=sys.stdout)
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
