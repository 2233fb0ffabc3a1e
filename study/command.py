"""Runs a study, a grid of trainings, one after the other; resumes one that was stopped.

  ood-study --study=my_study.py --output_dir=results/mine
  ood-study --study=table1 --data_dir=DIR --output_dir=results/table1 --list
  ood-study --study=table1 --data_dir=DIR --output_dir=results/table1
  ood-study --study=table1 --output_dir=results/table1 --summary

my_study.py is a file of yours that says STUDY = study.Study(...), see
docs/guides/extend.md.

Two studies come with the package. table1 is the paper's Table 1 with its baselines and
its ablation. scanner asks what Table 1 measures: methods of it on MNIST, each trained
with and without random renderings, and measured in other renderings too. On one core,
a run of table1 takes some ten minutes (MNIST) or half an hour (Fashion-MNIST), three
times as long for Confident-Classifier and where a training has three times the epochs,
and all of them more than a day. With --engine=local --workers=4 four runs go side by
side, with --engine=ray they are tasks of a Ray cluster, which has to find all folders
under the same paths, as on a shared disk; or give each core a process with an --only=.

What is finished is not run again; a run that was stopped, even killed, goes on; a run
that fails is recorded and the next one begins. After each run the results in
--output_dir are rewritten, each file whole or not at all: metrics.csv and runs.csv,
one line for each number and for each run; study.json, what the names mean; and
summary.json, all of it in one file for programs.
"""

import pathlib

from absl import flags

from ood_keras.tools import app

_FLAGS = app.new_flags()
_STUDY = flags.DEFINE_string(
    "study",
    None,
    "The study: table1, scanner, or FILE.py, a file of yours that defines STUDY.",
    required=True,
    flag_values=_FLAGS,
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "The folder that holds the data sets.", flag_values=_FLAGS
)
_OUTPUT_DIR = flags.DEFINE_string(
    "output_dir",
    None,
    "The folder of the results: CSV, JSON and other small files.",
    required=True,
    flag_values=_FLAGS,
)
_RUNS_DIR = flags.DEFINE_string(
    "runs_dir",
    None,
    "The folder of weights, checkpoints and logs; default: runs/STUDY.",
    flag_values=_FLAGS,
)
_ONLY = flags.DEFINE_string(
    "only",
    None,
    "The runs to take, such as mnist/ours or *synthetic*/seed_0; several are separated "
    "by commas.",
    flag_values=_FLAGS,
)
_SEEDS = flags.DEFINE_list(
    "seeds", None, "The seeds to take; default: all.", flag_values=_FLAGS
)
_LIST = flags.DEFINE_bool(
    "list", False, "Show all runs and where they stand, and end.", flag_values=_FLAGS
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run",
    False,
    "Show what would be run, in this order and with which recipe, and end.",
    flag_values=_FLAGS,
)
_SUMMARY = flags.DEFINE_bool(
    "summary",
    False,
    "Rewrite the results from the runs, show them (of table1, against the paper), and "
    "end.",
    flag_values=_FLAGS,
)
_ENGINE = flags.DEFINE_enum(
    "engine",
    None,
    ["local", "ray"],
    "Run side by side: in processes of this machine, or as tasks of Ray, on the "
    "cluster that the environment variable RAY_ADDRESS names. Default: one run after "
    "the other.",
    flag_values=_FLAGS,
)
_WORKERS = flags.DEFINE_integer(
    "workers",
    None,
    "With --engine: how many runs at a time; default: the number of cores, or what the "
    "cluster takes.",
    lower_bound=1,
    flag_values=_FLAGS,
)


def _study(positional: list[str]) -> None:
    if positional:
        raise ValueError(f"ood-study takes flags only; received: {positional}")
    app.load("workflows.training")
    from ood_keras.study import engine as study_engine
    from ood_keras.study import find
    from ood_keras.study import summary as study_summary

    study, study_file = find.find_study(_STUDY.value)
    output_dir = _OUTPUT_DIR.value
    seeds = None if _SEEDS.value is None else [*map(_seed, _SEEDS.value)]
    if _SUMMARY.value:
        if _ONLY.value is not None or seeds is not None:
            raise ValueError("--summary is of all runs: leave --only and --seeds out")
        if not pathlib.Path(output_dir).is_dir():
            raise FileNotFoundError(
                f"there is no folder {output_dir}; --summary reads what an earlier "
                "ood-study wrote there"
            )
        print(study_summary.format_summary(study_summary.write(study, output_dir)))
        return
    study_engine.check_names(study)
    if _LIST.value or _DRY_RUN.value:
        for run in study.runs(_ONLY.value, seeds):
            status = study_summary.status(run, output_dir)
            if _LIST.value:
                print(f"{status:<9} {run.name}")
            elif status != "finished":
                job = run.job()
                print(f"{run.name}\n  unknown: {', '.join(job['unknown']) or 'none'}")
                print(f"  {run.recipe}")
        return
    if _DATA_DIR.value is not None and not pathlib.Path(_DATA_DIR.value).is_dir():
        raise FileNotFoundError(
            f"there is no folder {_DATA_DIR.value}; --data_dir holds the data sets, "
            "each in a folder of its own"
        )
    failed = study_engine.run_study(
        study,
        data_dir=_DATA_DIR.value,
        output_dir=output_dir,
        runs_dir=_RUNS_DIR.value or f"runs/{study.name}",
        only=_ONLY.value,
        seeds=seeds,
        plugins=_FLAGS["plugin"].value or (),
        study_file=study_file,
        engine=_ENGINE.value,
        num_workers=_WORKERS.value,
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
    app.run("ood-study", __doc__, _FLAGS, _study)


if __name__ == "__main__":
    main()
