"""Which pictures to leave out, so that what is left does not spoil a result."""

from ood_keras.pipelines.audit import findings
from ood_keras.pipelines.audit.collection import Collection
from ood_keras.pipelines.split import ROLES


def choose(collection: Collection) -> dict[str, dict[str, str]]:
    """Returns what to leave out of each source, `{spec: {name: reason}}`.

    What cannot be read; of a picture that is known and unknown, the unknown copies; of
    one under several labels, all copies, since nobody knows which label is right; of
    one in several splits, all but the copies of the last split, so that tests stay as
    they are.
    """
    chosen: dict[int, str] = {
        row: one.error for row, one in enumerate(collection.pictures) if one.error
    }
    for group in findings.equal(collection):
        chosen |= _of_copies(collection, group)
    left_out: dict[str, dict[str, str]] = {}
    for row, reason in sorted(chosen.items()):
        picture = collection.pictures[row]
        spec = collection.sources[picture.source].spec
        left_out.setdefault(spec, {})[picture.name] = reason
    return left_out


def _of_copies(collection: Collection, group: list[int]) -> dict[int, str]:
    some = collection.pictures
    chosen = {}
    harm = findings.harm_of(collection, [some[row] for row in group])
    if harm == "known_and_unknown":
        known = [row for row in group if collection.kind(some[row]) == "known"]
        reason = f"is the same picture as the known {collection.where(some[known[0]])}"
        chosen = dict.fromkeys(set(group) - set(known), reason)
        group = known
        harm = findings.harm_of(collection, [some[row] for row in group])
    if harm == "labels":
        labels = sorted({str(some[row].class_name) for row in group})
        reason = f"is the same picture under several labels: {', '.join(labels)}"
        chosen |= dict.fromkeys(group, reason)
    elif harm == "splits":
        roles = {row: some[row].part or some[row].role for row in group}
        last = max((role for role in roles.values() if role), key=ROLES.index)
        chosen |= {
            row: f"is the same picture as one in {last}"
            for row, role in roles.items()
            if role != last
        }
    return chosen
