"""Tunes the numbers of a recipe by how many unknown validation images pass."""

import dataclasses
import functools
import json
import math
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ood_keras import files
from ood_keras.conventions import check_count
from ood_keras.evaluation import trials_figure
from ood_keras.training import recipes
from ood_keras.training.recipe_overrides import parse_overrides
from ood_keras.training.run import DivergedError, find_best
from ood_keras.types import Json, Path
from ood_keras.workflows import run_data, run_record, training

# The share of unknown validation images that pass where 95 % of the known ones do.
JUDGED_BY = "val_fpr95_known_positive"
_REPORTED = (JUDGED_BY, "val_auroc", "val_known_accuracy")
RESULT, PICTURE, TRIALS = "tuning.json", "tuning.png", "trials"
_NAME = "{:03}"
# What decides the recipe where none is named, of the arguments of `training.train`.
_OF_RECIPE = (
    "backbone",
    "data_dir",
    "image_shape",
    "background",
    "skip_bad",
    "group_by",
)
# What is searched by default: the recipe's own number, so much up and down.
_BY_FACTOR, _FACTOR = ("learning_rate", "weight_decay", "objectosphere_weight"), 4.0
_DROPOUTS = (0.0, 0.5)


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers to try for a field of a recipe.

    Attributes:
        low: The lowest.
        high: The highest, above `low`. If both are integers, only such are tried.
        log: Whether the order of magnitude is what matters; for numbers above 0.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        is_ordered = self.low < self.high and math.isfinite(self.high - self.low)
        if not is_ordered or (self.log and self.low <= 0):
            raise ValueError(
                "a range goes from a low to a higher number, on a logarithmic scale "
                f"from above 0. Received: {self}"
            )

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a search.

    Attributes:
        number: From 1, which is the recipe as it is.
        values: What was tried, by field of the recipe.
        run_dir: Its run, one like any of `workflows.train`.
        metrics: On validation images at the best epoch; empty if training diverged.
        seconds: How long it took, when it was last begun or resumed.
    """

    number: int
    values: Json
    run_dir: str
    metrics: dict[str, float]
    seconds: float

    @property
    def passing(self) -> float:
        """Share of unknown images that pass, lower is better; 1 if it diverged."""
        return self.metrics.get(JUDGED_BY, 1.0)


def tune_recipe(
    *,
    known: str,
    unknown: Sequence[str],
    output: Path,
    trials: int = 20,
    search: Mapping[str, Range | Sequence[Any]] | None = None,
    recipe: str | None = None,
    overrides: Iterable[str] = (),
    seed: int = 0,
    **of_train: Any,
) -> list[Trial]:
    """Trains a recipe again and again with other numbers, and says which serve best.

    Each trial is a run of `workflows.train` in a folder of its own, judged by the share
    of unknown validation images that pass where 95 % of the known ones do, at its best
    epoch. The first is the recipe as it is; some are random, three for each field, and
    the others are what Bayesian optimisation proposes (KerasTuner's). Stopped, even
    killed, and called again with the same arguments, it goes on; with more trials, it
    goes further. The same data may lie in another `data_dir` by then.

    Validation images choose among the trials, so they flatter the best one; measure it
    with `workflows.evaluate`. Test images take no part here, but for their shape.

    Args:
        known: As for `workflows.train`.
        unknown: As for `workflows.train`; at least one source.
        output: The folder of the trials, of `tuning.json` and of `tuning.png`.
        trials: How many trainings, the recipe as it is among them.
        search: What to try, `{field of a recipe: Range or list of choices}`. Default:
            learning rate, weight decay and the weight of the objectosphere loss from a
            quarter of the recipe's to four times it, where it is above 0, and dropout
            from 0 to 0.5; fields that `overrides` names are left alone.
        recipe: Name of a recipe, as for `workflows.train`.
        overrides: `field=value` strings for every trial; `epochs=3` makes them short.
        seed: Decides the search, and each training.
        **of_train: Further arguments of `workflows.train`.

    Returns:
        The trials, the best one first.

    Raises:
        ImportError: KerasTuner is not installed.
        ValueError: there is no unknown source, `search` names what a recipe has not or
            what `overrides` sets, or `output` holds a search with other arguments or on
            other data.
    """
    trials = check_count("trials", trials)
    if not unknown:
        raise ValueError(
            "trials are judged by unknown validation images: name at least one unknown "
            "source, for example `synthetic`, which is made from the known images"
        )
    overrides = list(overrides)
    fixed = parse_overrides(overrides)
    files.check_local(output)
    output = pathlib.Path(output)
    if recipe is None:
        recipe = training.find_recipe(
            known=known,
            unknown=unknown,
            run_dir=output / TRIALS / _NAME.format(1),
            overrides=overrides,
            **{name: of_train[name] for name in _OF_RECIPE if name in of_train},
        )
    begun_with = recipes.get(recipe, **fixed)
    space = _check_search(search, begun_with, fixed)
    asked = {
        "known": known,
        "unknown": list(unknown),
        "recipe": recipe,
        "overrides": overrides,
        "search": space,
        "seed": seed,
        # The data may be moved: what tells whether it is the same is checked below.
        "train": {
            name: str(value) for name, value in of_train.items() if name != "data_dir"
        },
    }
    output.mkdir(parents=True, exist_ok=True)
    with files.lock_folder(output):
        done = _read_done(output / RESULT, asked)
        if len(done) < trials:
            _check_data(output, done, of_train.get("data_dir"))

        def run(number: int, values: Json) -> float:
            if number == 1:
                values = {field: _get_own(begun_with, field) for field in space}
            if number not in done:
                print(
                    f"\nTrial {number} of {trials}: {_format(values)}",
                    flush=True,
                )
                done[number] = _train(
                    functools.partial(
                        training.train,
                        known=known,
                        unknown=unknown,
                        recipe=recipe,
                        overrides=[*overrides, *_override(values, number)],
                        seed=seed,
                        **of_train,
                    ),
                    number,
                    values,
                    output / TRIALS / _NAME.format(number),
                )
                _write(output, asked, done)
                print(_describe(done, trials), flush=True)
            return done[number].passing

        recorded = {number: trial.values for number, trial in done.items()}
        _search(run, space, begun_with, recorded, trials, seed)
    return _sort(done)


def describe_best(found: Sequence[Trial], most: int = 5) -> str:
    """Returns the best trials of a search in lines to print.

    Args:
        found: What `tune_recipe` returned.
        most: How many to name.
    """
    lines = [
        f"The best of {len(found)} trials, by unknown validation images that pass:"
    ]
    for trial in found[:most]:
        values = _format(trial.values)
        lines.append(f"{100 * trial.passing:8.2f} %  trial {trial.number}: {values}")
    return "\n".join(lines)


def parse_search(texts: Iterable[str]) -> dict[str, Range | list[Any]]:
    """Reads `FIELD=LOW:HIGH`, `FIELD=LOW:HIGH:log` and `FIELD=A|B|C`.

    Raises:
        ValueError: a text is none of them, or a field comes twice.
    """
    found: dict[str, Range | list[Any]] = {}
    for text in texts:
        field, _, values = text.partition("=")
        try:
            if field in found or not field:
                raise ValueError
            if "|" in values:
                choices = values.split("|")
                parsed = [parse_overrides([f"{field}={c}"]) for c in choices]
                found[field] = [one[field] for one in parsed]
            else:
                low, high, *scale = values.split(":")
                if scale not in ([], ["log"]):
                    raise ValueError
                found[field] = Range(json.loads(low), json.loads(high), bool(scale))
        except (ValueError, TypeError) as error:
            raise ValueError(
                "what to search is FIELD=LOW:HIGH, FIELD=LOW:HIGH:log or FIELD=A|B|C, "
                "once for each field of a recipe, as in learning_rate=0.005:0.2:log. "
                f"Received: {text!r}"
            ) from error
    return found


def _check_search(search, recipe: recipes.Recipe, set_already: Json) -> Json:
    """What to search, plain JSON values; each must make a recipe."""
    if search is None:
        search = {
            field: Range(number / _FACTOR, number * _FACTOR, log=True)
            for field in _BY_FACTOR
            if (number := getattr(recipe, field)) > 0
        }
        search["dropout"] = Range(*_DROPOUTS)
        search = {field: search[field] for field in search if field not in set_already}
    if not search:
        raise ValueError("there is no field to search. Name one, or override fewer")
    both = sorted(search.keys() & set_already.keys())
    if both:
        raise ValueError(f"{both[0]} is both searched and overridden; do one of them")
    for field, values in search.items():
        ends = [values.low, values.high] if isinstance(values, Range) else list(values)
        if not ends:
            raise ValueError(f"there is nothing to try for {field}")
        for value in ends:
            # Raises where the recipe has no such field, or the field no such value.
            parse_overrides([f"{field}={json.dumps(value)}"])
            changed: dict[str, Any] = {field: value}
            dataclasses.replace(recipe, **changed)
    # What is read of `tuning.json` later has lists where there are tuples now.
    return {
        field: _plain(dataclasses.asdict(values))
        if isinstance(values, Range)
        else [_plain(value) for value in values]
        for field, values in search.items()
    }


def _search(
    run: Callable[[int, Json], float],
    space: Json,
    recipe: recipes.Recipe,
    recorded: dict[int, Json],
    trials: int,
    seed: int,
) -> None:
    """Lets KerasTuner propose values, one trial after the other.

    What was recorded is proposed again, in its order, so that a search that goes on
    stands where it stood; nothing of KerasTuner's own is kept.
    """
    try:
        import keras_tuner
    except ImportError as error:
        raise ImportError(
            "searching needs KerasTuner, which is not installed: pip install "
            "keras-tuner"
        ) from error
    names = keras_tuner.HyperParameters()
    first = {}
    for field, values in space.items():
        own = _get_own(recipe, field)
        if isinstance(values, list):
            # Choices may be lists; KerasTuner takes numbers and texts.
            names.Int(field, 0, len(values) - 1)
            first[field] = values.index(own) if own in values else 0
        else:
            make = names.Int if Range(**values).is_whole else names.Float
            scale = "log" if values["log"] else "linear"
            make(field, values["low"], values["high"], sampling=scale)
            # What stands for the recipe's own number where that is outside.
            own = values["low"] if own is None else own
            first[field] = min(max(own, values["low"]), values["high"])

    class FromRecipe(keras_tuner.oracles.BayesianOptimizationOracle):
        def populate_space(self, trial_id):
            proposed = super().populate_space(trial_id)
            number = _count(trial_id)
            if number == 1:
                proposed["values"] = first
            elif number in recorded:
                proposed["values"] = _encode(recorded[number], space)
            return proposed

    class Tuner(keras_tuner.Tuner):
        def run_trial(self, trial, **_):
            values = _decode(trial.hyperparameters.values, space)
            try:
                return run(_count(trial.trial_id), values)
            except Exception as error:
                # Any other error KerasTuner would note and try again.
                raise keras_tuner.errors.FatalError from error

    with tempfile.TemporaryDirectory(prefix=files.TEMPORARY) as folder:
        oracle = FromRecipe(
            objective=keras_tuner.Objective(JUDGED_BY, "min"),
            max_trials=trials,
            hyperparameters=names,
            # To KerasTuner 0 is no seed.
            seed=seed + 1,
        )
        try:
            Tuner(oracle, directory=folder).search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise error.__cause__ from None


def _count(trial_id: str) -> int:
    """KerasTuner counts from 0."""
    return int(trial_id) + 1


def _get_own(recipe: recipes.Recipe, field: str) -> Any:
    return _plain(getattr(recipe, field))


def _plain(value: Any) -> Any:
    """A value as it comes back from JSON."""
    return json.loads(json.dumps(value))


def _decode(values: Json, space: Json) -> Json:
    return {
        field: choices[values[field]] if isinstance(choices, list) else values[field]
        for field, choices in space.items()
    }


def _encode(values: Json, space: Json) -> Json:
    return {
        field: choices.index(values[field])
        if isinstance(choices, list)
        else values[field]
        for field, choices in space.items()
    }


def _override(values: Json, number: int) -> list[str]:
    if number == 1:  # The recipe as it is.
        return []
    return [f"{field}={json.dumps(value)}" for field, value in values.items()]


def _train(train, number: int, values: Json, run_dir: pathlib.Path) -> Trial:
    start = time.monotonic()
    try:
        best = find_best(train(run_dir=run_dir))
        metrics = {name: best[name] for name in _REPORTED if name in best}
    except DivergedError as error:
        print(error, flush=True)
        metrics = {}
    seconds = round(time.monotonic() - start, 1)
    return Trial(number, values, str(run_dir), metrics, seconds)


def _read_done(path: pathlib.Path, asked: Json) -> dict[int, Trial]:
    """The trials that a search has, if it is the one that is asked for."""
    if not path.exists():
        return {}
    recorded = json.loads(path.read_text(encoding="utf-8"))
    # Searches of earlier versions noted it.
    recorded["asked"]["train"].pop("data_dir", None)
    differing = [key for key in asked if recorded["asked"].get(key) != asked[key]]
    if differing:
        key = differing[0]
        raise ValueError(
            f"{path.parent} holds a search with another {key}: "
            f"{recorded['asked'].get(key)!r}. Received: {asked[key]!r}. Give another "
            "output"
        )
    return {one["number"]: Trial(**one) for one in recorded["trials"]}


def _check_data(
    output: pathlib.Path, done: Mapping[int, Trial], data_dir: Path | None
) -> None:
    """Raises if the data are others than those of the trials that are done."""
    for number in sorted(done):
        run_dir = output / TRIALS / _NAME.format(number)
        # One that diverged has no network.
        if run_record.has_model(run_dir):
            run_data.check_data(run_dir, data_dir)
            return


def _write(output: pathlib.Path, asked: Json, done: dict[int, Trial]) -> None:
    trials = [dataclasses.asdict(done[number]) for number in sorted(done)]
    files.write_json(output / RESULT, {"asked": asked, "trials": trials})
    fields = {
        field: [(done[n].values[field], done[n].passing) for n in sorted(done)]
        for field in asked["search"]
    }
    logarithmic = [
        field
        for field, values in asked["search"].items()
        if isinstance(values, dict) and values["log"]
    ]
    figure = trials_figure.trials_figure(fields, logarithmic)
    with files.atomic_file(output / PICTURE) as path:
        figure.savefig(path, format="png")


def _sort(done: dict[int, Trial]) -> list[Trial]:
    return sorted(done.values(), key=lambda trial: (trial.passing, trial.number))


def _describe(done: dict[int, Trial], trials: int) -> str:
    last, best = done[max(done)], _sort(done)[0]
    text = (
        f"Trial {last.number}: {100 * last.passing:.2f} % of the unknown "
        f"validation images pass; best so far: trial {best.number}, "
        f"{100 * best.passing:.2f} %."
    )
    left = trials - len(done)
    if left > 0:
        usual = sorted(trial.seconds for trial in done.values())[len(done) // 2]
        minutes = left * usual / 60
        text += f" About {max(1, round(minutes)):,} min for {left} more."
    return text


def _format(values: Json) -> str:
    return ", ".join(
        f"{field}={value:.4g}" if isinstance(value, float) else f"{field}={value}"
        for field, value in values.items()
    )
