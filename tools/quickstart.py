"""Runs the whole job on data that needs no download, in minutes.

  ood-quickstart --run_dir=runs/demo

Handwritten digits are known. The model trains with synthetic outliers only, made from
the digits; then it meets letters and noise, which it has never seen, and rejects them.
Each step prints the command that does the same.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_string("run_dir", "The folder that receives everything.", "runs/demo")
_KNOWN, _EXPOSURE, _RECIPE = "digits", "synthetic", "demo"
_UNKNOWN = ("glyphs", "uniform_noise", "gaussian_noise")


def _quickstart() -> None:
    import pathlib

    from ood_keras.files import write_text

    app.load("workflows.training")
    from ood_keras import workflows
    from ood_keras.workflows import promises

    run_dir = pathlib.Path(_FLAGS.run_dir)
    _step(
        f"ood-train --known={_KNOWN} --unknown={_EXPOSURE} --recipe={_RECIPE} "
        f"--run_dir={run_dir}"
    )
    workflows.train(known=_KNOWN, unknown=[_EXPOSURE], recipe=_RECIPE, run_dir=run_dir)
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
    print(f"\nLook at {picture} and {run_dir}/report.html.")


def _step(command):
    print(f"\n$ {command}", flush=True)


def main() -> None:
    """The command `ood-quickstart`."""
    app.run("ood-quickstart", __doc__, _FLAGS, _quickstart)


if __name__ == "__main__":
    main()
