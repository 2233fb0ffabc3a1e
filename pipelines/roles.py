"""Guards against leaks: nothing may be trained on, tuned on and reported on at once."""

from ood_keras.pipelines.split import ROLES


def check_roles(known, unknown):
    """Raises if the splits of an experiment leak into each other.

    Call it with everything an experiment touches. Fit on train; select, tune and
    calibrate on validation; report on test.

    Args:
        known: `{"train": split, "validation": split, "test": split}`, or a part of it.
        unknown: `{"train": [splits], ...}` in the same way.

    Raises:
        ValueError: a split is used in two roles or twice in one, or in another role
            than its own; the same images come under two names; or a class is both
            known and unknown.

    Example:

    ```python
    pipelines.check_roles(
        known={"train": known.train, "test": known.test},
        unknown={"train": [letters.train], "test": [letters.test, kmnist.test]},
    )
    ```
    """
    known = {role: [split] for role, split in known.items()}
    uses = [
        (f"{kind} {role}", role, split)
        for kind, roles in (("known", known), ("unknown", unknown))
        for role, splits in roles.items()
        for split in splits
    ]
    first_uses = {}
    for use, role, split in uses:
        if role not in ROLES:
            raise ValueError(
                f"`{role}` is no role; the roles are {', '.join(ROLES)}. Received: "
                f"{use} = {split}"
            )
        if split.pixel_fingerprint in first_uses:
            other_use, other = first_uses[split.pixel_fingerprint]
            raise ValueError(
                f"the same images are used twice: {other} for {other_use} and {split} "
                f"for {use}. Results on images that were trained or tuned on are "
                "worth nothing; use another split for one of them"
            )
        first_uses[split.pixel_fingerprint] = (use, split)
        if split.role != role:
            raise ValueError(
                f"{split} is a {split.role} split, but is used for {use}. Use its "
                f"source's `.{role}`"
            )
    check_classes(
        [split for splits in known.values() for split in splits],
        [split for splits in unknown.values() for split in splits],
    )


def check_classes(known, unknown):
    """Raises if a class of the known splits is also one of the unknown splits."""
    for known_split in known:
        names = dict(
            zip(known_split.class_identities, known_split.class_names, strict=True)
        )
        for split in unknown:
            both = [
                names[identity]
                for identity in split.class_identities
                if identity in names
            ]
            if both:
                shown = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
                raise ValueError(
                    f"a class cannot be both known and unknown: {known_split} and "
                    f"{split} both have {shown}. Choose another unknown source, or "
                    "only the other classes of this one, as in `mnist[5-9]`"
                )
