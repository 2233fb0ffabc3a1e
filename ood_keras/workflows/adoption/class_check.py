"""Whether a network's classes are those of the known pictures, in the same order."""

from collections.abc import Sequence

import numpy as np

from ood_keras.pipelines import Source
from ood_keras.workflows.adoption.pixel_ranges import Trial

# A guess that knows nothing is better than chance by this chance.
_CHANCE = 1e-3
# Another order is meant if it explains so many more of the pictures.
_BETTER = 0.1


def check_count(num_logits: int, source: Source, unknown_class: bool) -> None:
    """Raises a ValueError unless there is one logit for each known class.

    Args:
        num_logits: K of the network.
        source: The known source.
        unknown_class: Whether the last logit is of an unknown class.
    """
    if not source.num_classes:
        raise ValueError(
            f"{source.name} has no classes. Expected a folder with one sub-folder of "
            "pictures for each class of the network"
        )
    expected = source.num_classes + unknown_class
    if num_logits == expected:
        return
    names = ", ".join(source.class_names[:20])
    hint = ""
    if num_logits > expected:
        hint = (
            ". If its last output is one for unknown pictures, say so: --unknown_class"
            if num_logits == expected + 1
            else ". Pictures of all its classes are needed; those of a class that is "
            "missing would count as unknown"
        )
    raise ValueError(
        f"the network tells {num_logits} classes apart"
        f"{', one of them unknown' if unknown_class else ''}, and {source.name} has "
        f"{source.num_classes} ({names}). Give known pictures of just the classes that "
        f"it was trained on{hint}"
    )


def order_source(source: Source, class_names: Sequence[str] | None, spec: str) -> str:
    """Returns the spec of the known source with its classes in the network's order.

    Args:
        source: The known source, in the order of its folders.
        class_names: Its classes in the order of the network; `None` keeps it.
        spec: The spec of the source.

    Raises:
        ValueError: they are not the classes of the source.
    """
    if class_names is None or list(class_names) == list(source.class_names):
        return spec
    given = list(class_names)
    if sorted(given) != sorted(source.class_names):
        missing = [name for name in source.class_names if name not in given]
        strange = [name for name in given if name not in source.class_names]
        raise ValueError(
            f"the class names must be those of {source.name}, each once, in the order "
            "of the network's outputs. "
            + "; ".join(
                f"{what}: {', '.join(names)}"
                for what, names in (
                    ("not given", missing),
                    ("not in the source", strange),
                )
                if names
            )
        )
    if spec.endswith("]"):
        raise ValueError(
            f"{spec} chooses classes already; give them in the order of the network "
            "there, and no class names"
        )
    numbered = all(name.isdigit() for name in given)
    order = given if numbered else [source.class_names.index(name) for name in given]
    return f"{spec}[{','.join(map(str, order))}]"


def check_order(
    trial: Trial, labels: np.ndarray, class_names: Sequence[str], accuracy: float
) -> None:
    """Raises a ValueError if the outputs stand for the classes in another order.

    Args:
        trial: What the network said of labelled known pictures.
        labels: Their classes.
        class_names: The names of these.
        accuracy: The best accuracy in any range of pixels that was tried: one with
            red and blue exchanged may look like an exchange of classes.
    """
    count = len(labels)
    order, best = _match(trial, labels, class_names)
    # The best order of many fits somewhat better by chance, but not half of all.
    room = max(_BETTER * count, 3 * np.sqrt(count))
    if best > accuracy * count + room and best > count / 2:
        raise ValueError(
            f"the classes are in another order: of {count} known pictures the network "
            f"classifies {trial.accuracy:.0%} as their folders do, and would "
            f"{best / count:.0%} if its outputs stood, in this order, for "
            f"{_list(order)}. If they do, give these names, all of them, as "
            "--class_names"
        )


def _match(
    trial: Trial, labels: np.ndarray, class_names: Sequence[str]
) -> tuple[list[str], int]:
    """The classes in the order that fits the outputs best; how many are then right."""
    from scipy import optimize

    num_classes = len(class_names)
    table = np.zeros((num_classes, num_classes), int)
    np.add.at(table, (trial.predictions, labels), 1)
    outputs, folders = optimize.linear_sum_assignment(table, maximize=True)
    order = [class_names[folder] for folder in folders]
    return order, int(table[outputs, folders].sum())


def _list(names: Sequence[str]) -> str:
    return f"{', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"


def check_knows(
    trial: Trial, labels: np.ndarray, class_names: Sequence[str], range_name: str
) -> None:
    """Raises a ValueError if a network does no better than a constant answer.

    Args:
        trial: What it said of labelled known pictures.
        labels: Their classes.
        class_names: The names of these.
        range_name: The range of pixels that it was shown, for the message.
    """
    from scipy import special

    count = len(labels)
    right = round(trial.accuracy * count)
    most = int(np.bincount(labels).max())
    if special.bdtrc(right - 1, count, most / count) > _CHANCE:
        order, best = _match(trial, labels, class_names)
        raise ValueError(
            f"the network does not know these pictures: of {count} it classifies "
            f"{right / count:.0%} as their folders do (pixels: {range_name!r}, the "
            f"best of those tried), and who always says the largest class has "
            f"{most / count:.0%}. Either the order of the classes differs (give "
            "--class_names in the order of its outputs; of all orders, "
            f"{_list(order)} fits best, with {best / count:.0%}), or the pixels it "
            "takes (give --input_range), or it was trained for something else"
        )
