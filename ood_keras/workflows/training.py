"""Trains a recipe into a run directory, or resumes it there."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from ood_keras import pipelines, training
from ood_keras.evaluation import renderings
from ood_keras.files import write_json
from ood_keras.image_files import BACKGROUND
from ood_keras.names import one_line
from ood_keras.pipelines.sources import listed
from ood_keras.training import processes, recipes
from ood_keras.training.recipe_overrides import parse_overrides
from ood_keras.types import Dataset, ImageShape, Json, Path
from ood_keras.workflows.begun_run import BegunRun
from ood_keras.workflows.class_weight import index_classes, read_class_weight
from ood_keras.workflows.data_check import check_data, list_left_out
from ood_keras.workflows.run_data import (
    FORMATS,
    GROUP_BY,
    LEFT_OUT,
    MOST_OUTLIERS,
    NUM_OUTLIERS,
    count_outliers,
    draw_exposure,
    fingerprint,
    load_unknown,
    render_validation,
    take_validation,
)
from ood_keras.workflows.training_verdict import VERDICT, judge


def train(
    *,
    known: str,
    unknown: Sequence[str],
    run_dir: Path,
    recipe: str | recipes.Recipe | None = None,
    data_dir: Path | None = None,
    image_shape: ImageShape | None = None,
    background: int | str | None = BACKGROUND,
    overrides: Iterable[str] = (),
    backbone: str | None = None,
    backbone_weights: Path | None = None,
    mixed_precision: str | None = None,
    class_weight: Mapping[str, float] | str | None = None,
    seed: int = 0,
    skip_bad: bool = False,
    group_by: str | Sequence[str] | None = None,
) -> list[Json]:
    """Trains a recipe into `run_dir`, or resumes it there.

    Where the environment has KERAS_DISTRIBUTION_NUM_PROCESSES and its like, this is one
    of several processes that train one model, see `training.join_processes`. Each makes
    the same call.

    Args:
        known: Spec of the known source.
        unknown: Specs of the unknown sources to train with; none for a recipe whose
            loss learns from known images alone.
        run_dir: The folder of the run.
        recipe: Name of a recipe, or a `recipes.Recipe`; `None` is that of the run that
            is resumed, or for a new one "photos" with a backbone, and else "robust"
            for drawings and "robust_wide" for other pictures, see
            `evaluation.renderings.kind_of`.
        data_dir: The folder of the data sets.
        image_shape: `(height, width, channels)` to convert all images to; default: the
            known source's own.
        background: What transparent pixels of picture files are laid on, see
            `pipelines.load`; evaluation and export keep to it.
        overrides: `field=value` strings that change the recipe.
        backbone: A network of `keras.applications` to begin with, such as "MobileNetV2"
            or "MobileNetV2:alpha=0.35", or a preset of KerasHub, "keras_hub:PRESET";
            `None` is what the recipe says.
        backbone_weights: Its weights: "imagenet", a file (see `models.transfer`) or
            "none" for random ones; `None` is what the recipe says.
        mixed_precision: "bfloat16" or "float16", which the network computes in, or
            "none"; `None` is that of the run that is resumed, or what the recipe says.
        class_weight: Weights of known classes in the loss, by name, as a dict or as the
            text "rose=2,tulip=0.5"; "balanced" weighs all classes alike, however many
            images they have. Those that are not named weigh 1, as unknown images do.
        seed: Decides everything.
        skip_bad: Whether to leave out files that would spoil the result, see
            `data_check.check_data`, and to list them in `run.json` and in the report,
            in place of stopping at them.
        group_by: What makes pictures of folders belong together, so that all of them
            are in one split, see `pipelines.load`: "copies", "folder", a regular
            expression with one group, or several. `None` is "copies"; "none" deals
            pictures out one by one.

    Returns:
        The history that `training.fit` returns.

    Raises:
        ValueError: nothing to train with, leaking splits, an unknown recipe or field.
    """
    processes.join_if_told()
    # A process beside the first has a folder of its own, maybe on another machine.
    own_dir = processes.choose_folder(run_dir)
    weights = read_class_weight(class_weight)
    changes = _collect_changes(
        overrides,
        backbone=backbone,
        backbone_weights=None if backbone_weights is None else str(backbone_weights),
        mixed_precision=mixed_precision,
    )
    begun = BegunRun(own_dir)
    changes = {**begun.precision, **changes}
    is_chosen_by_data = False
    if recipe is None:
        recipe = _name_recipe(begun, changes)
        is_chosen_by_data = recipe is None
    recipe = _change(recipe or _FOR_DRAWINGS, changes)
    _check_unknown(unknown, recipe)
    training.set_seed(seed)
    known_source, recorded = _open_known(
        known,
        unknown,
        begun,
        data_dir=data_dir,
        image_shape=image_shape,
        background=background,
        skip_bad=skip_bad,
        group_by=group_by,
    )
    _check_classes(known_source, recipe.objective)
    if is_chosen_by_data:
        name, kind = choose_recipe(known_source)
        if name != recipe.name:
            recipe = recipes.get(name, **changes)
        print(
            f"Recipe: {name}, since {known} looks like {kind}s; --recipe chooses "
            "another.",
            flush=True,
        )
    num_outliers = begun.keep_outliers(count_outliers(known_source.validation))
    unknown_sources = load_unknown(
        unknown, known_source, data_dir, seed, num_outliers, recorded
    )
    num_classes = known_source.num_classes
    known_train = known_source.train
    pipelines.check_known(known_train)
    unknown_train = draw_exposure(recipe, unknown_sources, known_source, seed)
    known_validation, unknown_validation = take_validation(
        known_source, unknown_sources, num_outliers
    )
    pipelines.check_roles(
        known={"train": known_train, "validation": known_validation},
        unknown={"train": unknown_train, "validation": unknown_validation},
    )
    data = pipelines.Interleave(
        known_train,
        unknown_train or None,
        num_classes,
        batch_size=recipe.batch_size,
        seed=seed,
        unknown_per_epoch=recipe.unknown_per_epoch if unknown_train else None,
        augment=recipe.augment,
        class_weight=index_classes(weights, known_source.class_names),
    )
    judging = render_validation(recipe, known_validation, unknown_validation)
    objective = recipe.objective
    model = objective.build_model(known_source.image_shape, num_classes)
    options: dict[str, Any] = {
        "run_dir": run_dir,
        "validation": objective.build_validation(
            model, judging["known"], judging["unknown"]
        ),
        "num_classes": num_classes,
        "seed": seed,
        "settings": {
            "known": known,
            "unknown": list(unknown),
            "data_dir": begun.keep_data_dir(data_dir),
            "image_shape": list(known_source.image_shape),
            **_background_setting(known_source),
            **({"exif_orientation": True} if begun.exif_orientation else {}),
            **recorded,
            "class_names": list(known_source.class_names),
            "recipe": recipe.to_json(),
            "data": fingerprint(
                [known_train, known_validation, *unknown_train, *unknown_validation]
            ),
            **({NUM_OUTLIERS: num_outliers} if num_outliers < MOST_OUTLIERS else {}),
        },
    }
    history = _fit(model, data, recipe, options)
    judged = judge(history, known_validation, unknown_validation)
    if judged is not None:
        write_json(own_dir / VERDICT, judged.to_json())
    return history


def find_recipe(
    *,
    known: str,
    unknown: Sequence[str],
    run_dir: Path,
    overrides: Iterable[str] = (),
    backbone: str | None = None,
    **of_data: Any,
) -> str:
    """The name of the recipe that `train` takes where none is named.

    Of a run that is not begun, the known images are looked at in the splits that it
    will have, without the files that it will leave out.

    Args:
        known: As for `train`.
        unknown: As for `train`.
        run_dir: As for `train`.
        overrides: As for `train`.
        backbone: As for `train`.
        **of_data: `data_dir`, `image_shape`, `background`, `skip_bad` and `group_by`,
            as for `train`.

    Raises:
        ValueError: files would spoil the result, and `skip_bad` is not given.
    """
    begun = BegunRun(run_dir)
    name = _name_recipe(begun, _collect_changes(overrides, backbone=backbone))
    if name is not None:
        return name
    return choose_recipe(_open_known(known, unknown, begun, **of_data)[0])[0]


def _name_recipe(begun: BegunRun, changes: Json) -> str | None:
    """The recipe that is taken whatever the images look like, or `None`."""
    return begun.recipe_name or (WITH_BACKBONE if changes.get("backbone") else None)


def _open_known(
    known: str,
    unknown: Sequence[str],
    begun: BegunRun,
    *,
    data_dir: Path | None = None,
    image_shape: ImageShape | None = None,
    background: int | str | None = BACKGROUND,
    skip_bad: bool = False,
    group_by: str | Sequence[str] | None = None,
) -> tuple[pipelines.Source, Json]:
    """The known source without what is bad, and what a run records of all sources."""
    background = begun.keep_background(background)
    left_out = begun.left_out
    if left_out is None:
        left_out = check_data(known, unknown, background=background, skip_bad=skip_bad)
        if left_out:
            print(list_left_out(left_out), flush=True)
    group_by = begun.keep_groups(group_by, [known, *unknown])
    recorded: Json = {
        **({LEFT_OUT: left_out} if left_out else {}),
        **({GROUP_BY: group_by} if group_by else {}),
        **(
            {FORMATS: begun.formats}
            if any(map(listed.is_listed, [known, *unknown]))
            else {}
        ),
    }
    known_source = pipelines.load(
        known,
        data_dir=data_dir,
        image_shape=image_shape,
        background=background,
        exif_orientation=begun.exif_orientation,
        leave_out=left_out.get(known, ()),
        group_by=group_by if listed.is_listed(known) else (),
        formats=begun.formats,
    )
    return known_source, recorded


def choose_recipe(known: pipelines.Source) -> tuple[str, str]:
    """The recipe for known images by their look, and what they look like.

    Args:
        known: The source of the known classes.

    Returns:
        The name of a recipe, and one of `evaluation.renderings`' kinds of images.
    """
    kind = renderings.kind_of(known.train.images[:1000])
    return _FOR_PHOTOS if kind == renderings.PHOTO else _FOR_DRAWINGS, kind


_FOR_DRAWINGS, _FOR_PHOTOS, WITH_BACKBONE = "robust", "robust_wide", "photos"


def _collect_changes(overrides: Iterable[str], **arguments: str | None) -> Json:
    """Returns the changes of the recipe; "none" of an argument says that it is null."""
    changes = parse_overrides(overrides)
    for field, value in arguments.items():
        if value is None:
            continue
        if field in changes:
            raise ValueError(
                f"--{field} and --override={field} say the same; give one of them"
            )
        changes[field] = None if value == "none" else value
    return changes


def _change(recipe: str | recipes.Recipe, changes: Json) -> recipes.Recipe:
    if not isinstance(recipe, recipes.Recipe):
        return recipes.get(recipe, **changes)
    return dataclasses.replace(recipe, **changes)


def _check_unknown(unknown: Sequence[str], recipe: recipes.Recipe) -> None:
    """Raises unless there are unknown sources exactly if the loss learns from them."""
    shows_unknown = recipe.objective.shows_unknown
    if shows_unknown and not unknown:
        raise ValueError(
            "no unknown source was given to train with. Name at least one, for example "
            "`emnist/letters`, a folder of your own (`folder:PATH`), or `synthetic`, "
            "which is made from the known images"
        )
    if unknown and not shows_unknown:
        raise ValueError(
            f"the loss {recipe.loss!r} learns from known images alone, so give no "
            f"unknown source. Received: {', '.join(unknown)}"
        )


def _fit(
    model: keras.Model,
    data: pipelines.Interleave,
    recipe: recipes.Recipe,
    options: dict[str, Any],
) -> list[Json]:
    """Trains as the recipe says; `options` are other arguments of `training.fit`."""
    objective = recipe.objective

    def wrap(data):
        if recipe.mixup is not None:
            data = training.RegMixup(data, recipe.mixup, options["seed"])
        return label_each(data, objective.outputs)

    if recipe.is_pretrained:
        weights = model.get_layer("backbone").get_weights()
        options["settings"]["backbone_sha256"] = _digest(weights)
        return training.fit_transfer(
            model, data, objective=objective, wrap=wrap, **options
        )
    objective.compile(model, options["num_classes"], data.steps_per_epoch)
    return training.fit(
        model, wrap(data), epochs=recipe.epochs, score=objective.score, **options
    )


def _check_classes(
    known: pipelines.Source, objective: training.objectives.Objective
) -> None:
    """Raises unless there are as many known classes as the loss can learn from."""
    if known.num_classes < 1:
        raise ValueError(
            f"{known.name} has no known class. In a folder, each sub-folder of "
            "pictures is a class: put pictures of what is to be recognised into one, "
            "and what is to be rejected into a source of its own (--unknown)"
        )
    if known.num_classes == 1 and not objective.unknown_class:
        with_unknown = [
            name
            for name in training.objectives.names()
            if training.objectives.get(name).unknown_class
        ]
        raise ValueError(
            f"{known.name} has one known class, {one_line(known.class_names[0])}, and "
            f"the loss {objective.name!r} only tells known classes apart. Take a loss "
            f"with an unknown class, {' or '.join(with_unknown)}, and --unknown="
            "synthetic if you have no unknown images; or add pictures of another thing "
            "that is to be recognised, in a sub-folder of their own"
        )


def _digest(weights: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for weight in weights:
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _background_setting(source: pipelines.Source) -> Json:
    """What `run.json` says about it: nothing where alpha was dropped."""
    return {} if source.background is None else {"background": source.background}


def label_each(data: Any, outputs: Sequence[str]) -> Any:
    """Returns data with the labels for every output of a model.

    Args:
        data: An `Interleave`, or what has its `epoch`.
        outputs: The outputs' names; of one, the data are left as they are.
    """
    return data if len(outputs) == 1 else _LabelsForEach(data, outputs)


class _LabelsForEach:
    def __init__(self, data: Any, outputs: Sequence[str]) -> None:
        self._data, self._outputs = data, outputs
        self.steps_per_epoch = data.steps_per_epoch

    def get_config(self) -> Json:
        return self._data.get_config()

    def epoch(self, index: int, start_step: int = 0) -> Dataset:
        def each(images, *targets):
            return images, *(dict.fromkeys(self._outputs, part) for part in targets)

        return self._data.epoch(index, start_step).map(each)
