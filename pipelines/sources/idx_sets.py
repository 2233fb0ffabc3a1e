"""The public data sets of 28x28 grey images that come as IDX files."""

import dataclasses
import pathlib
import string

from ood_keras.pipelines.sources import base, idx, tfds

_DIGITS = tuple(string.digits)
_SYSTEM_DATA = pathlib.Path("/usr/share/datasets")


@dataclasses.dataclass(frozen=True)
class IdxSet:
    """A named data set: where its files lie and what its classes are called."""

    class_names: tuple[str, ...]
    first_label: int = 0
    namespace: str | None = None
    system_folder: str | None = None
    in_tfds: bool = True


IDX_SETS = {
    "mnist": IdxSet(_DIGITS, namespace="digit"),
    "fashion_mnist": IdxSet(
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        # Debian's package dataset-fashion-mnist.
        system_folder="fashion-mnist",
    ),
    "emnist/letters": IdxSet(
        tuple(string.ascii_uppercase),
        first_label=1,
    ),
    "kmnist": IdxSet(
        tuple(
            f"hiragana {name}"
            for name in ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
        ),
    ),
    "notmnist": IdxSet(tuple(string.ascii_uppercase[:10]), in_tfds=False),
}


def open_set(request):
    """Opens a source of `IDX_SETS`: --data_dir first, then the system, then TFDS."""
    idx_set = IDX_SETS[request.spec]
    folders = []
    if request.data_dir is not None:
        folders.append(request.data_dir / request.spec.replace("/", "_"))
    if idx_set.system_folder is not None:
        folders.append(_SYSTEM_DATA / idx_set.system_folder)
    for folder in folders:
        parts = idx.find(folder)
        if parts:
            return idx.open_parts(
                request,
                parts,
                idx_set.class_names,
                first_label=idx_set.first_label,
                namespace=idx_set.namespace,
            )
    looked_for = [f"IDX files in {folder}" for folder in folders]
    if not idx_set.in_tfds:
        raise base.not_found(request, looked_for)
    return tfds.open_dataset(request, request.spec, looked_for)
