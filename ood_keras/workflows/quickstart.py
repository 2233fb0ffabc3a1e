"""The whole job on data that needs no download, one command after the other."""

import pathlib

from ood_keras import workflows
from ood_keras.files import write_text
from ood_keras.types import Path
from ood_keras.workflows import promises
from ood_keras.workflows.begun_run import BegunRun

_KNOWN, _EXPOSURE, _RECIPE = "digits", "synthetic", "demo"
_UNKNOWN = ("glyphs", "uniform_noise", "gaussian_noise")
# That it knows a digit by its shape and not by how it was scanned; the recipe itself
# leaves images as they are.
_OVERRIDES = ("augment=random_rendering", "validation_augment=mild_rendering")


def run_all(*, run_dir: Path) -> None:
    """Trains, measures, exports and predicts; prints each step's command and result.

    Args:
        run_dir: The folder that receives everything.
    """
    run_dir = pathlib.Path(run_dir)
    # A demo that an earlier version began goes on as it began.
    overrides = () if BegunRun(run_dir).is_of_recipe(_RECIPE) else _OVERRIDES
    changes = "".join(f"--override={change} " for change in overrides)
    _step(
        f"ood-train --known={_KNOWN} --unknown={_EXPOSURE} --recipe={_RECIPE} "
        f"{changes}--run_dir={run_dir}"
    )
    workflows.train(
        known=_KNOWN,
        unknown=[_EXPOSURE],
        recipe=_RECIPE,
        overrides=overrides,
        run_dir=run_dir,
    )
    _step(f"ood-evaluate --run_dir={run_dir} --unknown={','.join(_UNKNOWN)}")
    print(workflows.evaluate(run_dir=run_dir, unknown=list(_UNKNOWN)))
    _step(f"ood-export --run_dir={run_dir} --output={run_dir}/saved_model")
    path, threshold = workflows.export(run_dir=run_dir, output=run_dir / "saved_model")
    print(f"{threshold}\n\n{promises.describe_verdict(path)}")
    images = sorted((run_dir / "samples").glob("*_0[0-5]_*.png"))
    picture = run_dir / "predictions.png"
    _step(
        f"ood-predict --model={path} --picture={picture} "
        f"{run_dir}/samples/*_0[0-5]_*.png"
    )
    table = workflows.predict(model=path, paths=images, picture=picture)
    print(table)
    write_text(run_dir / "predictions.txt", table + "\n")
    print(
        f"\nLook at {picture} and {run_dir}/report.html. For pictures of your own, in "
        "one folder per class:\n"
        f"  ood-train --known=folder:PICTURES --unknown={_EXPOSURE} "
        "--run_dir=runs/mine\n"
        "Its recipe, robust or robust_wide, shows them in random renderings too."
    )


def _step(command: str) -> None:
    print(f"\n$ {command}", flush=True)
