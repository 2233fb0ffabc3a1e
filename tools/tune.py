"""Searches for the numbers of a recipe that let the fewest unknown images pass.

  ood-tune --known=folder:PICTURES/known --unknown=synthetic --recipe=photos_scratch \\
      --override=epochs=5 --trials=30 --output=runs/tuning
  ood-tune --known=digits --unknown=synthetic --recipe=demo --output=runs/tuning \\
      --search=learning_rate=0.005:0.2:log --search='filters=[8,16]|[16,32]'

Each trial is a training like that of ood-train, in a folder of its own, judged by
validation images: the share of unknown ones that pass where 95 % of the known ones do.
The first is the recipe as it is, so that what the search gains is seen; then come
random ones and those that Bayesian optimisation proposes (KerasTuner, pip install
keras-tuner). A search that was stopped, even killed, goes on when the same command is
given again, and goes further with more --trials.

Writes tuning.json, all trials; tuning.png, a picture of what each number does; and the
trials themselves. A search picks what suits the validation images best, so measure the
best trial with ood-evaluate before you believe it.
"""

from ood_keras.tools import app

_FLAGS = app.Flags()
_FLAGS.add_training()
_FLAGS.add_output(
    "output",
    "The folder that receives everything; give the same one to go on.",
    required=True,
)
_FLAGS.add_integer("trials", "How many trainings.", 20, lower_bound=1)
_FLAGS.add_repeated(
    "search",
    "A field of the recipe and what to try: FIELD=LOW:HIGH, FIELD=LOW:HIGH:log for "
    "numbers whose order of magnitude matters, or FIELD=A|B|C. May be given several "
    "times. Default: learning_rate, weight_decay and objectosphere_weight from a "
    "quarter of the recipe's to four times it, and dropout from 0 to 0.5.",
    [],
)


def _tune() -> None:
    workflow = app.load("workflows.recipe_tuning")
    found = workflow.tune_recipe(
        **_FLAGS.read_arguments("override", "search"),
        overrides=_FLAGS.override,
        search=workflow.parse_search(_FLAGS.search) or None,
    )
    print(f"\n{workflow.describe_best(found)}")
    print(
        f"\nAll of them: {_FLAGS.output}/tuning.json, drawn in tuning.png. Next:\n"
        f"  ood-evaluate{_FLAGS.repeat_plugins()} --run_dir={found[0].run_dir} "
        "--unknown=SOURCES"
    )


def main() -> None:
    """The command `ood-tune`."""
    app.run("ood-tune", __doc__, _FLAGS, _tune, trains=True)


if __name__ == "__main__":
    main()
