"""The public data sets of 28x28 grey images that come as IDX files."""

import dataclasses
import os
import pathlib
import string
from collections.abc import Iterator, Mapping

from ood_keras.pipelines.sources import base, idx, npz, tfds
from ood_keras.pipelines.sources.registry import register

_DIGITS = tuple(string.digits)
_EMNIST = "emnist/"
_SYSTEM_DATA = pathlib.Path("/usr/share/datasets")


@dataclasses.dataclass(frozen=True)
class IdxSet:
    """A named data set: where its files lie and what its classes are called."""

    class_names: tuple[str, ...]
    licence: str
    first_label: int = 0
    namespace: str | None = None
    system_folder: str | None = None
    # The file or folder of `keras.datasets`, which keeps others as pickle files.
    keras_copy: str | None = None
    in_tfds: bool = True


IDX_SETS = {
    "mnist": IdxSet(
        _DIGITS,
        "copyright Yann LeCun and Corinna Cortes; commonly stated to be under "
        "CC BY-SA 3.0, though no licence text comes with the files",
        namespace="digit",
        keras_copy="mnist.npz",
    ),
    "fashion_mnist": IdxSet(
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        "MIT, copyright 2017 Zalando SE",
        # Debian's package dataset-fashion-mnist.
        system_folder="fashion-mnist",
        keras_copy="fashion-mnist",
    ),
    **{
        name: IdxSet(
            class_names or _DIGITS,
            "derived from NIST Special Database 19, a work of the United States "
            "government; cite arXiv:1702.05373",
            *rest,  # type: ignore[arg-type]
        )
        for name, (class_names, *rest) in tfds.emnist_sets().items()
    },
    "kmnist": IdxSet(
        tuple(
            f"hiragana {name}"
            for name in ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
        ),
        'CC BY-SA 4.0; "KMNIST Dataset" (created by CODH), adapted from "Kuzushiji '
        'Dataset" (created by NIJL and others), doi:10.20676/00000341',
    ),
    "notmnist": IdxSet(
        tuple(string.ascii_uppercase[:10]),
        "no licence text comes with the data (Yaroslav Bulatov)",
        in_tfds=False,
    ),
    **{
        name: IdxSet(
            tuple(f"Kannada {digit}" for digit in _DIGITS),
            "unknown: the publisher's repository, Vinay Uday Prabhu's, has no licence "
            "text; cite arXiv:1908.01242",
            in_tfds=False,
        )
        for name in ("kannada_mnist", "dig_mnist")
    },
}


def open_set(request: base.Request) -> base.Source:
    """Opens a source of `IDX_SETS`.

    Looked at are --data_dir, the system's own data, what TFDS has prepared, and what
    `keras.datasets` has fetched, in this order; then TFDS prepares it, if it can.
    """
    idx_set = IDX_SETS[request.spec]
    places = list(_places(request, idx_set))
    for place, prefixes in places:
        found = idx.find(place)
        for prefix in prefixes:
            if prefix in found:
                is_emnist = request.spec.startswith(_EMNIST)
                return idx.open_parts(
                    request,
                    found[prefix],
                    idx_set.class_names,
                    first_label=idx_set.first_label,
                    namespace=idx_set.namespace,
                    turn=idx.turner(place, prefix) if is_emnist else None,
                )
    looked_for = [f"IDX files in {place}" for place, _ in places]
    if not idx_set.in_tfds:
        raise base.not_found(request, looked_for)
    return tfds.open_dataset(
        request,
        request.spec,
        looked_for,
        open_kept=lambda: _open_keras_copy(request, idx_set, looked_for),
    )


def _open_keras_copy(
    request: base.Request, idx_set: IdxSet, looked_for: list[str]
) -> base.Source | None:
    """Opens what `keras.datasets` has fetched of a set, or notes where it is not."""
    if idx_set.keras_copy is None:
        return None
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    copy = pathlib.Path(home).expanduser() / "datasets" / idx_set.keras_copy
    if copy.suffix == ".npz":
        if copy.is_file():
            return npz.open_file(
                request, copy, idx_set.class_names, namespace=idx_set.namespace
            )
    elif parts := _find_whole(copy):
        return idx.open_parts(request, parts, idx_set.class_names)
    looked_for.append(f"what keras.datasets keeps, {copy}")
    return None


def _find_whole(folder: pathlib.Path) -> Mapping[str, tuple] | None:
    """The IDX files in a folder, or `None` if some are missing: it was interrupted."""
    try:
        parts = idx.find(folder).get("", {})
    except base.DataNotFoundError:
        return None
    return parts if {"train", "test"} <= set(parts) else None


for _name, _idx_set in IDX_SETS.items():
    register(open_set, name=_name, licence=_idx_set.licence)


def _places(
    request: base.Request, idx_set: IdxSet
) -> Iterator[tuple[pathlib.Path, list[str]]]:
    """Yields where files of a set may lie, and what their names may begin with."""
    own = request.spec.replace("/", "_")
    if request.data_dir is not None:
        prefixes = ["", request.spec.replace("/", "-"), own]
        if not request.spec.startswith(_EMNIST):
            yield request.data_dir / own, prefixes
        else:
            # The publisher's archive is called gzip.zip and holds a folder gzip.
            for inner in (own, f"{own}/gzip", f"{own}/gzip.zip"):
                yield request.data_dir / inner, prefixes
            for inner in ("emnist", "emnist/gzip", "emnist/gzip.zip", "gzip.zip"):
                yield request.data_dir / inner, prefixes[1:]
    if idx_set.system_folder is not None:
        yield _SYSTEM_DATA / idx_set.system_folder, [""]
