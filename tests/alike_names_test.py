"""Which names are one to whoever reads them."""

import pytest

from ood_keras import names


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("hot dog", " hot\u00a0\tdog\n"),
        ("cat", "c\u200ba\u00adt\ufeff"),
    ],
)
def test_names_that_look_the_same(one, other):
    assert names.look(one) == names.look(other)
    assert names.fold(one.upper()) == names.fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A", "a"),
        ("x2", "x\u00b2"),
        # With and without a join: another word, another picture.
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u062e"),
        ("\U0001f469\u200d\U0001f52c", "\U0001f469\U0001f52c"),
        # The flags of England and of Scotland.
        *[
            tuple(
                "\U0001f3f4" + "".join(chr(0xE0000 + ord(one)) for one in region)
                for region in ("gbeng", "gbsct")
            )
        ],
        ("", "a"),
        ("\udce9", "\udce8"),
    ],
)
def test_names_that_look_different(one, other):
    assert names.look(one) != names.look(other)


def test_case_is_all_that_folding_leaves_out_besides():
    assert names.fold("\u0130") == names.fold("i\u0307")
    assert names.fold("STRASSE") == names.fold("stra\u00dfe")
    assert names.look("\u200b \u00a0") == ""
