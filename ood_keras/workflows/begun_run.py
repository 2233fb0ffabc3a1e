"""What a run was begun with, so that the same command goes on with it alike."""

import pathlib
from collections.abc import Sequence

from ood_keras import transcoding
from ood_keras.pipelines import grouping
from ood_keras.pipelines.sources import listed
from ood_keras.training import recipes, run_directory
from ood_keras.types import Json, Path
from ood_keras.workflows.run_data import (
    FORMATS,
    GROUP_BY,
    LEFT_OUT,
    MOST_OUTLIERS,
    NUM_OUTLIERS,
)


class BegunRun:
    """The settings of the run in a folder, if one was begun there.

    What it says goes before what is asked for or would be the default today. Runs of
    earlier versions lack settings, which stand for what these versions did.

    Args:
        run_dir: The folder of the run, begun or not.

    Raises:
        ValueError: its `run.json` is damaged.
    """

    def __init__(self, run_dir: Path) -> None:
        self._settings = _read_settings(pathlib.Path(run_dir))
        recipe = (self._settings or {}).get("recipe")
        self._recipe = recipe if isinstance(recipe, dict) else {}

    @property
    def recipe_name(self) -> str | None:
        """The name of its recipe; `None` for a new run or a recipe of one's own."""
        name = self._recipe.get("name")
        return name if name in recipes.names() else None

    def is_of_recipe(self, name: str) -> bool:
        """Whether it was begun with a recipe of `recipes.names`, and that unchanged."""
        try:
            begun = recipes.Recipe(**self._recipe)
        except TypeError:  # There is none, or it is damaged, which training says.
            return False
        return begun.to_json() == recipes.get(name).to_json()

    @property
    def precision(self) -> Json:
        """Its `mixed_precision` as a change of a recipe; nothing for a new run."""
        name = "mixed_precision"
        return {name: self._recipe[name]} if name in self._recipe else {}

    @property
    def left_out(self) -> Json | None:
        """The files that it leaves out, `{spec: {name: reason}}`; `None` if new."""
        return None if self._settings is None else self._settings.get(LEFT_OUT, {})

    @property
    def formats(self) -> list[str]:
        """The formats of pictures that it reads."""
        if self._settings is None:
            return list(transcoding.formats())
        return list(self._settings.get(FORMATS, transcoding.FIRST_FORMATS))

    @property
    def exif_orientation(self) -> bool:
        """Whether it turns JPEG files, which earlier versions did not."""
        return self._settings is None or self._settings.get("exif_orientation", False)

    def keep_background(self, background: int | str | None) -> int | str | None:
        """Returns the background to read with.

        `None` where an earlier version began the run, which dropped alpha. Another one
        than the run's is left to `training.fit`, which says that settings differ.
        """
        is_of_before = self._settings is not None and "background" not in self._settings
        return None if is_of_before else background

    def keep_outliers(self, num_outliers: int) -> int:
        """Returns how many outliers judge."""
        if self._settings is None:
            return num_outliers
        return self._settings.get(NUM_OUTLIERS, MOST_OUTLIERS)

    def keep_data_dir(self, data_dir: Path | None) -> str | None:
        """Returns the data folder to record.

        The same data may lie elsewhere by then: the fingerprints tell whether it is.
        """
        if self._settings is not None:
            return self._settings.get("data_dir")
        return None if data_dir is None else str(data_dir)

    def keep_groups(
        self, group_by: str | Sequence[str] | None, specs: Sequence[str]
    ) -> list[str]:
        """Returns what keeps pictures together, of those that are listed.

        Copies, in a new run with folders or the like; runs of earlier versions dealt
        out pictures one by one.

        Args:
            group_by: What is asked for, see `pipelines.load`.
            specs: The sources of the run.

        Raises:
            ValueError: no source is listed, or something else is asked for.
        """
        are_listed = any(map(listed.is_listed, specs))
        if group_by is not None:
            ways = [group_by] if isinstance(group_by, str) else list(group_by)
            grouping.parse(ways)
            if not are_listed:
                raise ValueError(
                    "`group_by` (--group_by) groups pictures of folders, zip files and "
                    "TFRecord files, and no source is a folder or such a file. "
                    f"Received: group_by={ways} for {', '.join(specs)}"
                )
            return [way for way in ways if way != grouping.NONE]
        if self._settings is not None:
            return list(self._settings.get(GROUP_BY, ()))
        return [grouping.COPIES] if are_listed else []


def _read_settings(run_dir: pathlib.Path) -> Json | None:
    # The first part of a training is a run of its own.
    for folder in (run_dir, run_dir / run_directory.FIRST_PART):
        if (folder / "run.json").is_file():
            settings = run_directory.read(folder).get("settings")
            return settings if isinstance(settings, dict) else {}
    return None
