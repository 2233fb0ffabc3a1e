"""What lies where in a folder of pictures: splits, classes, pictures, and the rest."""

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ood_keras import file_content
from ood_keras.conventions import UNKNOWN_LABEL
from ood_keras.names import fold
from ood_keras.pipelines import grouping
from ood_keras.pipelines.sources import archives, base, pictures, zip_paths
from ood_keras.pipelines.sources.zip_paths import FilePath
from ood_keras.pipelines.split import ROLES

# With the name of a split they say no more than that name: "training_set", "test2017".
_FILLERS = ("set", "data", "dataset", "split", "images", "imgs", "pictures", "folder")
# May be validation or test.
_AMBIGUOUS = ("eval", "evaluation", "holdout")
# What people call splits in other languages; two of these are no accident.
_ELSEWHERE = {
    "train": (
        "entrenamiento entraînement entrainement apprentissage treino treinamento "
        "addestramento trainingsdaten trainingsbilder lerndaten обучение 训练 训练集 "
        "訓練 訓練集 学習 학습"
    ),
    "validation": (
        "validación validacion validierung validierungsdaten validação validacao "
        "validazione валидация 验证 验证集 驗證 検証 검증"
    ),
    "test": (
        "prueba pruebas teste testes testdaten testbilder тест 测试 测试集 測試 テスト "
        "테스트"
    ),
}
# Parts of a cross-validation.
_FOLD = re.compile(r"(fold|split)[ _-]?[0-9]+")
# What names are made of: "seg_train", "segTrain" and "seg train" have two words each.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W_a-zA-Z]+")
_NO_FILE = "links to nothing and the like"


@dataclasses.dataclass(frozen=True)
class Layout:
    """A folder of pictures, on disk or in a zip file, as `read` finds it.

    Attributes:
        root: The folder of the data: the one asked for, or the only one in it.
        class_names: Names of the classes, those of the class folders; empty if all is
            unknown.
        pictures: `{part: [(file, class name or None)]}`, where part is a split or
            `"all"`, ordered by class and name.
        left_out: `{file: what it is}` of the files that are no pictures.
        problems: What `read` would raise, where it was asked to go on.
        nested: Folders within class folders, whose pictures count for the class.
    """

    root: FilePath
    class_names: list[str]
    pictures: dict[str, list[tuple[Any, str | None]]]
    left_out: dict[Any, str]
    problems: list[str]
    nested: list[FilePath] = dataclasses.field(default_factory=list)

    def name(self, file: Any) -> str:
        """Returns the name of a file within the folder: "train/cat/1.png"."""
        return file.relative_to(self.root).as_posix()

    def short_name(self, file: Any) -> str:
        """Returns the end of a file's name, for messages: "cat/1.png"."""
        return f"{file.parent.name}/{file.name}"

    def stamps(self, files: Iterable[Any]) -> Iterator[tuple[str, int, int]]:
        """Yields what tells, of each file, whether it is still the same.

        That is `(name, bytes, time of change in ns)`; of a zip file that of itself, and
        then checksums in place of times.
        """
        if isinstance(self.root, zip_paths.ZipPath):
            about = self.root.archive.path.stat()
            yield "", about.st_size, about.st_mtime_ns
            for file in files:
                yield (self.name(file), *file.stamp())
            return
        for file in files:
            about = file.stat()
            yield self.name(file), about.st_size, about.st_mtime_ns

    def read_keys(
        self, group_by: grouping.GroupBy, source: str
    ) -> tuple[dict[Any, tuple[str, ...]], str]:
        """Returns what the name of each picture has in common with others.

        Args:
            group_by: What to go by.
            source: What messages call the source.

        Returns:
            `({file: keys}, remark)`, see `grouping.read_keys`.
        """
        listed = [
            (file, part != "all", name is not None)
            for part, files in self.pictures.items()
            for file, name in files
        ]
        files = [file for file, _, _ in listed]
        names = [self.name(file) for file in files]
        # Below the folders of the split and of the class.
        folders = [
            "".join(name.split("/")[:-1][is_in_split + is_in_class :][:1])
            for name, (_, is_in_split, is_in_class) in zip(names, listed, strict=True)
        ]
        keys, remark = grouping.read_keys(group_by, names, folders, source)
        return dict(zip(files, keys, strict=True)), remark

    def find_links_out(self) -> dict[str, pathlib.Path]:
        """Returns what links of class folders and pictures lead to, outside of `root`.

        Folders are often made of links on purpose; but the pictures then change, or are
        gone, with another folder. Links in a zip file are refused.
        """
        root = self.root
        if not isinstance(root, pathlib.Path):
            return {}
        top = root.resolve()
        places = dict.fromkeys(
            path
            for files in self.pictures.values()
            for file, _ in files
            for path in (*reversed(file.parents), file)
            if path.is_relative_to(root)
        )
        return {
            self.name(path): path.resolve()
            for path in places
            if path.is_symlink()
            and path != root
            and not path.resolve().is_relative_to(top)
        }


def read(
    folder: FilePath,
    *,
    go_on: bool = False,
    formats: Sequence[str] | None = None,
) -> Layout:
    """Returns the `Layout` of a folder of pictures.

    Args:
        folder: The folder, on disk or in a zip file.
        go_on: Whether to list what is wrong with single classes in `problems`, in place
            of raising it.
        formats: The formats of pictures that are read; `None` is all.

    Raises:
        ValueError: it cannot be told what is a split and what a class, or a class
            cannot be one.
        DataNotFoundError: there are no pictures.
    """
    problems: list[str] = []

    def complain(problem: str) -> None:
        if not go_on:
            raise ValueError(problem)
        problems.append(problem)

    root, parts = _parts(folder, formats)
    left_out: dict[FilePath, str] = {}
    nested: list[FilePath] = []
    classes = {
        part: _classes(path, left_out, nested, complain, formats)
        for part, path in parts.items()
    }
    with_classes = [part for part, found in classes.items() if found is not None]
    if with_classes and len(with_classes) < len(classes):
        raise ValueError(
            f"{root}: {with_classes[0]} has class folders, but not all of "
            f"{', '.join(classes)} have. Give all of them class folders, or none"
        )
    names = {name for found in classes.values() for name in found or ()}
    class_names = sorted(names, key=natural_order)
    check_case(root, class_names, complain)
    listed: dict[str, list[tuple[FilePath, str | None]]] = {
        part: [
            (file, name)
            for name in sorted(found, key=natural_order)
            for file in found[name]
        ]
        if found is not None
        else [(file, None) for file in _pictures(parts[part], formats)[0]]
        for part, found in classes.items()
    }
    return Layout(root, class_names, listed, left_out, problems, nested)


def _parts(
    root: FilePath, formats: Sequence[str] | None
) -> tuple[FilePath, dict[str, FilePath]]:
    """Returns the folder of the data, and `{part: folder}` of what is in it.

    The folder is `root`, or the only one in it, if that holds the folders of splits.
    Without such folders there is one part, `{"all": root}`.
    """
    folders = list_folders(root)
    if len(folders) == 1 and not base.role_of(folders[0].name):
        inner = [folder.name for folder in list_folders(folders[0])]
        if any(map(base.role_of, inner)) and not _pictures(root, formats)[0]:
            root, folders = folders[0], list_folders(folders[0])
    found = collections.defaultdict(list)
    for folder in folders:
        found[base.role_of(folder.name)].append(folder)
    classes = [folder.name for folder in found.pop(None, ())]
    doubtful = (
        [name for name in classes if like_a_split(name)]
        or _pairs(classes)
        or _splits_elsewhere(classes)
    )
    if doubtful:
        raise ValueError(
            f"{root} has folders that seem to hold splits ({', '.join(doubtful[:5])}). "
            f"Call them {', '.join(ROLES)}; as classes, test images would be trained "
            "on. If they are classes, rename them"
        )
    for role, same in found.items():
        if len(same) > 1:
            raise ValueError(
                f"{root} has several folders for {role}: "
                f"{', '.join(folder.name for folder in same)}. Put all into one"
            )
    if not found:
        return root, {"all": root}
    if classes:
        splits = [same[0].name for same in found.values()]
        raise ValueError(
            f"{root} has both folders of splits ({', '.join(splits)}) and other ones "
            f"({', '.join(classes[:5])}). Expected only {', '.join(ROLES)}, or only "
            "one folder per class: move the classes into the splits; or, if "
            f"{splits[0]} is a class, rename it"
        )
    loose = _pictures(root, formats)[0]
    if loose:
        raise ValueError(
            f"{root} has pictures beside its folders of splits, for example "
            f"{loose[0].name}. Move them into a split, or out of {root}"
        )
    return root, {role: found[role][0] for role in ROLES if role in found}


def find_roles(name: str) -> list[str]:
    """Returns the words of a name that say a split, as splits where that is sure.

    >>> find_roles("flowers-Val.tfrecord-00000-of-00002"), find_roles("eval_0")
    (['validation'], ['eval'])
    """
    found = [base.role_of(word) or word for word in _words(name)]
    return [word for word in dict.fromkeys(found) if word in (*ROLES, *_AMBIGUOUS)]


def _words(name: str) -> list[str]:
    words = re.findall(r"[a-z]+", name.casefold())
    return [part for word in words for part in _split_word(word)]


def like_a_split(name: str) -> bool:
    """Whether a name says that a folder is a split, in words not known as such."""
    words = _words(name)
    roles = [word for word in words if base.role_of(word) or word in _AMBIGUOUS]
    return bool(roles) and len(roles) + sum(word in _FILLERS for word in words) == len(
        words
    )


def _splits_elsewhere(names: list[str]) -> list[str]:
    """The names that are splits in another language, or folds, if they are several."""
    roles = {}
    for name in names:
        folded = fold(name.strip())
        for role, words in _ELSEWHERE.items():
            if folded in map(fold, words.split()):
                roles[name] = role
        if _FOLD.fullmatch(folded):
            roles[name] = folded
    return list(roles) if len(set(roles.values())) > 1 else []


def _pairs(names: list[str]) -> list[str]:
    """The names that differ in the split alone, as "seg_train" and "seg_test" do."""
    same = collections.defaultdict(list)
    for name in names:
        words = [part for word in _WORD.findall(name) for part in _split_word(word)]
        roles = [
            base.role_of(word) or (word.casefold() in _AMBIGUOUS and word) or None
            for word in words
        ]
        if sum(role is not None for role in roles) == 1:
            rest = tuple(
                word.casefold()
                for word, role in zip(words, roles, strict=True)
                if role is None
            )
            same[rest].append((name, next(filter(None, roles))))
    return [
        name
        for alike in same.values()
        if len({role for _, role in alike}) > 1
        for name, _ in alike
    ]


def _split_word(word: str) -> list[str]:
    """Returns `["train", "set"]` for "trainset"."""
    for filler in _FILLERS:
        if word.endswith(filler) and base.role_of(word.removesuffix(filler)):
            return [word.removesuffix(filler), filler]
    return [word]


def _classes(
    folder: FilePath,
    left_out: dict[FilePath, str],
    nested: list[FilePath],
    complain: Callable[[str], None],
    formats: Sequence[str] | None,
) -> dict[str, list[FilePath]] | None:
    """Returns the pictures of each class folder, `None` if there are no such folders.

    Args:
        folder: The folder of a part.
        left_out: A dict to which the files are added that are no pictures.
        nested: A list to which the folders within class folders are added.
        complain: Called with what is wrong with a class.
        formats: As for `read`.
    """
    folders = list_folders(folder)
    loose, besides = _pictures(folder, formats)
    left_out.update(besides)
    classes = {}
    if not folders and not loose:
        raise base.DataNotFoundError(
            f"no pictures in {folder.absolute()}{_but(besides)}. Expected files that "
            f"end in {', '.join(pictures.SUFFIXES)}, or one sub-folder of them per "
            "class"
        )
    if not folders:
        return None
    if loose:
        raise ValueError(
            f"{folder} has pictures beside its class folders, for example "
            f"{loose[0].name}. Move them into a class folder, or out of {folder}"
        )
    for class_folder in folders:
        check_name(folder, class_folder.name)
        inner = list_folders(class_folder)
        cure = _cure(folder, folders, inner)
        if cure:
            raise ValueError(
                f"{class_folder} is a class, so its pictures lie in it or in folders "
                f"of any other name. Received: the folder {inner[0].name} in it. {cure}"
            )
        kept, besides = _pictures(class_folder, formats)
        for one in walk_folders(class_folder):
            nested.append(one)
            some, others = _pictures(one, formats)
            kept += some
            besides |= others
        left_out.update(besides)
        if not kept:
            complain(
                f"the class folder {class_folder} has no pictures "
                f"({', '.join(pictures.SUFFIXES)}){_but(besides)}. Add some or remove "
                "the folder"
            )
        classes[class_folder.name] = kept
    return classes


def _cure(folder: FilePath, folders: list[FilePath], inner: list[FilePath]) -> str:
    """What to do about folders within what was taken for a class, or ""."""
    if any(base.role_of(path.name) or like_a_split(path.name) for path in inner):
        return (
            "Folders of splits come first: move its pictures to "
            f"{folder / inner[0].name / inner[0].parent.name}"
        )
    if inner and len(folders) == 1:
        return f"If the classes are in there, give {folders[0]}"
    return ""


def walk_folders(folder: FilePath) -> Iterator[FilePath]:
    """Yields all folders below a folder, each once, however links lead back to it."""
    waiting, seen = list_folders(folder), {folder.resolve()}
    while waiting:
        found = waiting.pop(0)
        if found.resolve() not in seen:
            seen.add(found.resolve())
            yield found
            waiting = list_folders(found) + waiting


def _but(left_out: dict[FilePath, str]) -> str:
    if not left_out:
        return ""
    return f", but {pictures.describe_others(pictures.count(left_out))}"


def check_case(
    place: object, class_names: Sequence[str], complain: Callable[[str], None]
) -> None:
    """Complains if the names of two classes look the same, or but for their case."""
    same = collections.defaultdict(list)
    for name in class_names:
        same[fold(name)].append(name)
    for alike in same.values():
        if len(alike) > 1:
            # What looks the same is told apart by its characters.
            write = ascii if len(set(map(str.casefold, alike))) > 1 else repr
            shown = " and ".join(map(write, alike))
            complain(
                f"{place} has the classes {shown}, which differ in case or spaces "
                "alone, or in how Unicode writes the same letters. Put them together, "
                "or rename one"
            )


def check_name(place: object, name: str) -> None:
    """Raises if a class could not be called so.

    Args:
        place: Where its pictures are, for the message.
        name: The name.
    """
    if name == UNKNOWN_LABEL:
        raise ValueError(
            f"{place}: {UNKNOWN_LABEL} is what rejected images are called. Rename that "
            "class, or give its pictures as an unknown source of their own"
        )
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"{place} has a class whose name is not UTF-8: {os.fsencode(name)!r}. "
            "Rename it"
        ) from None


def list_folders(folder: FilePath) -> list[FilePath]:
    """Returns the folders in a folder, sorted, without those of operating systems."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not file_content.is_clutter(path.name)
    )


def _pictures(
    folder: FilePath,
    formats: Sequence[str] | None,
) -> tuple[list[FilePath], dict[FilePath, str]]:
    """Returns the pictures in a folder, sorted, and what the other files are."""
    paths = {
        path.name: path
        for path in folder.iterdir()
        if not file_content.is_clutter(path.name) and not path.is_dir()
    }
    there = {name: path for name, path in paths.items() if path.is_file()}
    heads = (
        (name, lambda path=path: _head(path))  # type: ignore[misc]
        for name, path in there.items()
    )
    kept, others = pictures.usable(heads, formats)
    others |= {name: _NO_FILE for name in paths if name not in there}
    left_out = {paths[name]: what for name, what in sorted(others.items())}
    return sorted(paths[name] for name in kept), left_out


def _head(path: FilePath) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(file_content.HEAD_BYTES)
    except (OSError, *archives.ERRORS):
        return b""  # Left out, and counted.


def natural_order(name: str) -> tuple[int, int, str]:
    """A key to sort classes by: numbers by value, so that 10 follows 9, then names."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)
