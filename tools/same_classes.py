"""Whether a data source has the classes of a model."""


def check_same_classes(source, class_names):
    """Raises a ValueError unless a source has the classes of a model, in any order.

    Args:
        source: A source of `pipelines.load`.
        class_names: Those of the model.
    """
    numbered = source.name.startswith(("npz:", "idx:"))
    # Such files have no names, and their labels are taken for the model's class ids.
    if numbered and source.num_classes == len(class_names):
        return
    found, expected = (
        {name.casefold(): name for name in names}
        for names in (source.class_names, class_names)
    )
    if found.keys() == expected.keys():
        return
    differing = {
        "only the model has": [expected[key] for key in expected if key not in found],
        "only the source has": [found[key] for key in found if key not in expected],
    }
    shown = "; ".join(
        f"{whose} {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        for whose, names in differing.items()
        if names
    )
    raise ValueError(
        f"{source.name} must have the {len(class_names)} classes of the model, whose "
        f"known images the threshold is for; {shown}. Choose classes as in mnist[0-4], "
        "call class folders as the model calls its classes, or give an .npz file with "
        f"labels 0 to {len(class_names) - 1}"
    )
