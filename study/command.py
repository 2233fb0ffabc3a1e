"""Runs a study, a grid of trainings, one after the other; resumes one that was stopped.

  ood-study --study=my_study.py --output_dir=results/mine
  ood-study --study=table1 --data_dir=DIR --output_dir=results/table1 --list
  ood-study --study=table1 --data_dir=DIR --output_dir=results/table1
  ood-study --study=table1 --output_dir=results/table1 --summary

my_study.py is a file of yours that says STUDY = study.Study(...), see
docs/guides/extend.md.

Four studies come with the package. table1 is the paper's Table 1 with its baselines and
its ablation. scanner asks what Table 1 measures: methods of it on MNIST, each trained
with and without random renderings, and measured in other renderings too. readings takes
Omniglot as it is distributed and inverted, by ours, and by the recipes robust and
robust_wide, which take longer. colour asks what trainings and scores are worth on
photographs and near unknowns: CIFAR-10 against CIFAR-100 and farther sets, six known
classes of ten, flowers with one left out. On one core, a run of table1 takes some ten
minutes (MNIST) or half an hour (Fashion-MNIST), three times as long for
Confident-Classifier and where a training has three times the epochs, and all of them
more than a day. With --engine=local --workers=4 four runs go side by side, with
--engine=ray they are tasks of a Ray cluster, which has to find all folders under the
same paths, as on a shared disk; or give each core a process with an --only=.

What is finished is not run again; a run that was stopped, even killed, goes on; a run
that fails is recorded and the next one begins. After each run the results in
--output_dir are rewritten, each file whole or not at all: metrics.csv and runs.csv,
one line for each number and for each run; study.json, what the names mean; and
summary.json, all of it in one file for programs.
"""

import pathlib

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string(
    "study",
    "The study: table1, scanner, readings, colour, or FILE.py, a file of yours that "
    "defines STUDY.",
    required=True,
)
_FLAGS.add_data_dir()
_FLAGS.add_output(
    "output_dir",
    "The folder of the results: CSV, JSON and other small files.",
    required=True,
)
_FLAGS.add_output(
    "runs_dir", "The folder of weights, checkpoints and logs; default: runs/STUDY."
)
_FLAGS.add_string(
    "only",
    "The runs to take, such as mnist/ours or *synthetic*/seed_0; several are separated "
    "by commas.",
)
_FLAGS.add_list("seeds", "The seeds to take; default: all.")
_FLAGS.add_bool("list", "Show all runs and where they stand, and end.")
_FLAGS.add_bool(
    "dry_run", "Show what would be run, in this order and with which recipe, and end."
)
_FLAGS.add_bool(
    "summary",
    "Rewrite the results from the runs, show them (of table1, against the paper), and "
    "end.",
)
_FLAGS.add_enum(
    "engine",
    "Run side by side: in processes of this machine, or as tasks of Ray, on the "
    "cluster that the environment variable RAY_ADDRESS names. Default: one run after "
    "the other.",
    ["local", "ray"],
)
_FLAGS.add_integer(
    "workers",
    "With --engine: how many runs at a time; default: the number of cores, or what the "
    "cluster takes.",
    lower_bound=1,
)


def _study() -> None:
    app.load("workflows.training")
    from ood_keras.study import engine as study_engine
    from ood_keras.study import find
    from ood_keras.study import summary as study_summary

    study, study_file = find.find_study(_FLAGS.study)
    output_dir = _FLAGS.output_dir
    seeds = None if _FLAGS.seeds is None else [*map(_seed, _FLAGS.seeds)]
    if _FLAGS.summary:
        if _FLAGS.only is not None or seeds is not None:
            raise ValueError("--summary is of all runs: leave --only and --seeds out")
        if not pathlib.Path(output_dir).is_dir():
            raise FileNotFoundError(
                f"there is no folder {output_dir}; --summary reads what an earlier "
                "ood-study wrote there"
            )
        print(study_summary.format_summary(study_summary.write(study, output_dir)))
        return
    study_engine.check_names(study)
    if _FLAGS.list or _FLAGS.dry_run:
        for run in study.runs(_FLAGS.only, seeds):
            status = study_summary.status(run, output_dir)
            if _FLAGS.list:
                print(f"{status:<9} {run.name}")
            elif status != "finished":
                job = run.job()
                print(f"{run.name}\n  unknown: {', '.join(job['unknown']) or 'none'}")
                print(f"  {run.recipe}")
        return
    if _FLAGS.data_dir is not None and not pathlib.Path(_FLAGS.data_dir).is_dir():
        raise FileNotFoundError(
            f"there is no folder {_FLAGS.data_dir}; --data_dir holds the data sets, "
            "each in a folder of its own"
        )
    failed = study_engine.run_study(
        study,
        data_dir=_FLAGS.data_dir,
        output_dir=output_dir,
        runs_dir=_FLAGS.runs_dir or f"runs/{study.name}",
        only=_FLAGS.only,
        seeds=seeds,
        plugins=_FLAGS["plugin"].value or (),
        study_file=study_file,
        engine=_FLAGS.engine,
        num_workers=_FLAGS.workers,
    )
    if failed:
        raise RuntimeError(
            f"{len(failed)} runs failed: {', '.join(failed)}. Their logs say why; give "
            "the same command again to try again"
        )


def _seed(text: str) -> int:
    if not text.strip().isdecimal():
        raise ValueError(
            f"--seeds takes whole numbers, such as --seeds=0,2; received {text!r}"
        )
    return int(text)


def main() -> None:
    """The command `ood-study`."""
    app.run("ood-study", __doc__, _FLAGS, _study, trains=True)


if __name__ == "__main__":
    main()
