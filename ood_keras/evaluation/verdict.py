"""Says whether a classifier that rejects may be used, from what was measured of it.

Numbers in, sentences out; nothing is measured here. What speaks against use, at which
number and why, stands in `RULES` and nowhere else. The numbers are judgements: of a
model that fails one of the first kind, nobody who saw that number would say that it
works; those of the second kind are worth a look before use, and may be all right where
they were expected.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from ood_keras.calibration import acceptance
from ood_keras.calibration.any_threshold import AnyThreshold
from ood_keras.names import one_line
from ood_keras.types import Json

Decision = Literal["do_not_ship", "look_first", "nothing_against"]
Severity = Literal["do_not_ship", "look_first"]

_SAID: dict[str, str] = {
    "do_not_ship": "do not ship this model",
    "look_first": "look at this before you ship the model",
    "nothing_against": "nothing that was measured speaks against shipping it",
}
# A validation set was looked at while training, and holds no other unknown pictures
# than training was shown.
_SAID_OF_TRAINING = {
    "do_not_ship": "do not ship this model",
    "look_first": "look at this first",
    "nothing_against": "nothing on the validation pictures speaks against it",
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """A number beyond which something is said, and the reason for that number.

    Attributes:
        limit: The number.
        is_least: Whether less than `limit` is bad; else more is.
        why: The reason, a sentence.
        severity: What one such number is enough for.
    """

    limit: float
    is_least: bool
    why: str
    severity: Severity

    def is_broken_by(self, value: float) -> bool:
        """Whether a number is on the wrong side."""
        return value < self.limit if self.is_least else value > self.limit


#: What speaks against use, by name. Shares are fractions.
RULES: dict[str, Rule] = {
    "skill": Rule(
        0.2,
        True,
        "Of the way from naming the largest class for every picture (0) to naming all "
        "right (1), less than a fifth is next to nothing learnt.",
        "do_not_ship",
    ),
    "names_mostly_wrong": Rule(
        0.5,
        True,
        "Of the accepted known pictures fewer than half get the right name, so that an "
        "answer is wrong more often than right.",
        "do_not_ship",
    ),
    "names_often_wrong": Rule(
        0.8,
        True,
        "Of the accepted known pictures more than one in five gets a wrong name.",
        "look_first",
    ),
    "unknown_mostly_pass": Rule(
        0.5,
        False,
        "More unknown pictures of a kind pass than are rejected, and rejecting them is "
        "what the model is for.",
        "do_not_ship",
    ),
    "unknown_often_pass": Rule(
        0.2,
        False,
        "More than one in five unknown pictures of a kind pass.",
        "look_first",
    ),
    "auroc_near_chance": Rule(
        0.6,
        True,
        "AUROC is the chance that an unknown picture scores higher than a known one; "
        "a coin has one half, so no threshold can help.",
        "do_not_ship",
    ),
    "auroc_low": Rule(
        0.8,
        True,
        "Of five pairs of a known and an unknown picture, the score has more than one "
        "the wrong way round.",
        "look_first",
    ),
    "promise_broken": Rule(
        0.1,
        False,
        "Known pictures are accepted less often than the threshold promises, by more "
        "than this and not by chance (one in a thousand): test pictures differ from "
        "those that it was chosen on.",
        "do_not_ship",
    ),
    "promise_missed": Rule(
        0.02,
        False,
        "The same, by less.",
        "look_first",
    ),
    "mild_known_mostly_lost": Rule(
        0.5,
        True,
        "On average over mild renderings, fewer than half of the known pictures are "
        "accepted: the model judges how pictures were taken.",
        "do_not_ship",
    ),
    "mild_known_lost": Rule(
        0.1,
        False,
        "In one mild rendering, known pictures are accepted less often than the "
        "threshold promises, by more than this.",
        "look_first",
    ),
    "mild_unknown_pass": Rule(
        0.5,
        False,
        "In one mild rendering, more unknown pictures of a kind pass than are "
        "rejected.",
        "look_first",
    ),
    "few_pictures": Rule(
        30,
        True,
        "A share of fewer than 30 pictures may be off by 18 points (95 % interval).",
        "look_first",
    ),
    "nothing_unseen": Rule(
        1,
        True,
        "Every kind of unknown picture that was tested was shown in training, or made "
        "like those; what other things do was not measured.",
        "look_first",
    ),
    "promise_wide": Rule(
        0.1,
        False,
        "So few known validation pictures chose the threshold that it may keep fewer "
        "known ones than it aims at, by more than this.",
        "look_first",
    ),
}


@dataclasses.dataclass(frozen=True)
class Kind:
    """Unknown pictures of one kind, at the threshold.

    Attributes:
        source: Their name.
        images: How many there are.
        accepted: How many of them pass.
        auroc: Of known pictures against these, or `None`.
        seen: Whether training was shown others of the kind.
    """

    source: str
    images: int
    accepted: int
    auroc: float | None = None
    seen: bool = False

    @property
    def title(self) -> str:
        """Its name as a sentence shows it."""
        return one_line(self.source)


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a verdict is based on: known and unknown pictures at one threshold.

    Attributes:
        images: How many known pictures there are.
        accepted: How many of them are accepted; `None` without a threshold.
        right: How many get the right name, accepted or not.
        accepted_right: How many are accepted and get the right name.
        largest_class: How many belong to the largest class.
        unknown: The kinds of unknown pictures.
        target: The share of known pictures that the threshold aims at, or `None`.
        promised: The least share that it promises, or `None`.
        renderings: What `UnderRenderings.at` says of the detector, or `None`.
        on: "test" or "validation".
    """

    images: int
    right: int
    largest_class: int
    accepted: int | None = None
    accepted_right: int | None = None
    unknown: Sequence[Kind] = ()
    target: float | None = None
    promised: float | None = None
    renderings: Json | None = None
    on: Literal["test", "validation"] = "test"


@dataclasses.dataclass(frozen=True)
class Objection:
    """Something that speaks against use.

    Attributes:
        rule: A name in `RULES`.
        sentence: What was found.
        value: The number that broke the rule.
        source: The kind of unknown pictures, or `None`.
    """

    rule: str
    sentence: str
    value: float
    source: str | None = None

    @property
    def severity(self) -> Severity:
        """What it is enough for."""
        return RULES[self.rule].severity


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Whether a classifier may be used, and why; `str()` is for a terminal.

    Attributes:
        on: What pictures it is based on, "test" or "validation".
        objections: What speaks against use, the worst first.
        facts: What was measured, a sentence each.
    """

    on: Literal["test", "validation"]
    objections: Sequence[Objection]
    facts: Sequence[str]

    @property
    def decision(self) -> Decision:
        """The worst that an objection is enough for."""
        found = {objection.severity for objection in self.objections}
        for severity in ("do_not_ship", "look_first"):
            if severity in found:
                return severity  # type: ignore[return-value]
        return "nothing_against"

    @property
    def said(self) -> str:
        """The decision in words."""
        words = _SAID if self.on == "test" else _SAID_OF_TRAINING
        return words[self.decision]

    def to_json(self) -> Json:
        """Plain values, as `metrics.json` and the manifest hold them."""
        return {
            "decision": self.decision,
            "said": self.said,
            "on": self.on,
            "objections": [
                {
                    "rule": objection.rule,
                    "severity": objection.severity,
                    "sentence": objection.sentence,
                    "value": objection.value,
                    "limit": RULES[objection.rule].limit,
                    "why": RULES[objection.rule].why,
                    "source": objection.source,
                }
                for objection in self.objections
            ],
            "facts": list(self.facts),
        }

    def __str__(self) -> str:
        return format_json(self.to_json())


def format_json(verdict: Json) -> str:
    """Returns what `Verdict.to_json` wrote as text for a terminal."""
    marks = {"do_not_ship": "!!", "look_first": " !"}
    return "\n".join(
        [
            f"Verdict: {verdict['said']}.",
            *(
                f"  {marks[objection['severity']]} {objection['sentence']}"
                for objection in verdict["objections"]
            ),
            *(f"     {fact}" for fact in verdict["facts"]),
        ]
    )


def count(
    *,
    labels: np.ndarray,
    predictions: np.ndarray,
    accepted: np.ndarray,
    unknown: Mapping[str, tuple[np.ndarray, Json]],
    threshold: AnyThreshold | None = None,
    renderings: Json | None = None,
) -> Measured:
    """Counts what a threshold does to test pictures.

    Args:
        labels: Integers `(num_known,)`.
        predictions: Integers `(num_known,)`, the known class with the largest logit.
        accepted: Bool `(num_known,)`.
        unknown: `{source: (accepted, row)}`: bool `(num_unknown,)`, and the metrics of
            the source as in `metrics.json`, of which "auroc" and "seen" are read.
        threshold: What it promises is compared; `None` where it was chosen on these
            same pictures.
        renderings: What `UnderRenderings.at` says of the detector, or `None`.
    """
    right = np.asarray(predictions) == np.asarray(labels)
    return Measured(
        images=len(right),
        right=int(right.sum()),
        largest_class=int(np.unique(labels, return_counts=True)[1].max()),
        accepted=int(np.sum(accepted)),
        accepted_right=int(np.sum(right & accepted)),
        unknown=[
            Kind(
                source,
                images=len(passing),
                accepted=int(np.sum(passing)),
                auroc=row["auroc"],
                seen=row["seen"],
            )
            for source, (passing, row) in unknown.items()
        ],
        target=None if threshold is None else threshold.target_acceptance,
        promised=None if threshold is None else acceptance.least_acceptance(threshold),
        renderings=renderings,
    )


def judge(measured: Measured) -> Verdict:
    """Returns the verdict on a classifier that rejects.

    Args:
        measured: The numbers.

    Returns:
        A `Verdict`. Nothing in it stops anybody.

    Raises:
        ValueError: there are no known pictures, or more accepted than there are.

    Example:

    >>> verdict = judge(Measured(
    ...     images=800, right=344, largest_class=100, accepted=768, accepted_right=335,
    ...     unknown=[Kind("ship", images=400, accepted=364, auroc=0.64)],
    ...     target=0.95, promised=0.93))
    >>> verdict.said
    'do not ship this model'
    """
    _check(measured)
    found = [*_names(measured), *_unknown(measured), *_promise(measured)]
    found += _renderings(measured)
    if measured.on == "test":
        found += _test_set(measured)
    # Of two rules on one number, the worse one.
    worse = {
        (_WORSE[objection.rule], objection.source)
        for objection in found
        if objection.rule in _WORSE
    }
    found = [one for one in found if (one.rule, one.source) not in worse]
    order: list[Severity] = ["do_not_ship", "look_first"]
    found.sort(key=lambda objection: order.index(objection.severity))
    return Verdict(measured.on, found, list(_facts(measured)))


# A rule, and the milder one on the same number.
_WORSE = {
    "names_mostly_wrong": "names_often_wrong",
    "unknown_mostly_pass": "unknown_often_pass",
    "auroc_near_chance": "auroc_low",
    "promise_broken": "promise_missed",
    "mild_known_mostly_lost": "mild_known_lost",
}


def _check(measured: Measured) -> None:
    if measured.images < 1:
        raise ValueError(
            "a verdict needs known pictures. Received: "
            f"Measured(images={measured.images})"
        )
    for kind in measured.unknown:
        if not 0 <= kind.accepted <= kind.images or not kind.images:
            raise ValueError(
                f"of {kind.images} unknown pictures of {kind.title}, {kind.accepted} "
                "cannot be accepted"
            )


def _object(rule: str, value: float, sentence: str, source: str | None = None):
    if RULES[rule].is_broken_by(value):
        yield Objection(rule, sentence, value, source)


def _names(measured: Measured) -> Iterator[Objection]:
    images, largest = measured.images, measured.largest_class
    accuracy, guess = measured.right / images, largest / images
    if guess < 1:
        yield from _object(
            "skill",
            (accuracy - guess) / (1 - guess),
            f"It names {_share(measured.right, images)} of the known pictures right; "
            "naming the largest class for every picture would be right for "
            f"{_share(largest, images)}.",
        )
    if measured.accepted:
        right, accepted = measured.accepted_right or 0, measured.accepted
        of = "accepted known pictures"
    else:
        right, accepted, of = measured.right, images, "known pictures"
    for rule in ("names_mostly_wrong", "names_often_wrong"):
        yield from _object(
            rule,
            right / accepted,
            f"{_share(accepted - right, accepted)} of the {of} get a wrong name.",
        )


def _unknown(measured: Measured) -> Iterator[Objection]:
    for kind in measured.unknown:
        for rule in ("unknown_mostly_pass", "unknown_often_pass"):
            yield from _object(
                rule,
                kind.accepted / kind.images,
                f"{_share(kind.accepted, kind.images)} of the unknown pictures of "
                f"{kind.title} pass as known.",
                kind.source,
            )
        if kind.auroc is None:
            continue
        for rule in ("auroc_near_chance", "auroc_low"):
            yield from _object(
                rule,
                kind.auroc,
                f"The score hardly tells known pictures from {kind.title}: AUROC "
                f"{kind.auroc:.1%}, where a coin has 50 %."
                if rule == "auroc_near_chance"
                else f"The score tells known pictures from {kind.title} with an AUROC "
                f"of {kind.auroc:.1%} only.",
                kind.source,
            )


def _promise(measured: Measured) -> Iterator[Objection]:
    accepted, promised = measured.accepted, measured.promised
    if accepted is None or promised is None:
        return
    share = accepted / measured.images
    is_accepted = np.arange(measured.images) < accepted
    for rule in ("promise_broken", "promise_missed"):
        limit = promised - RULES[rule].limit
        if acceptance.is_too_low(is_accepted, promised, limit=limit):
            yield from _object(
                rule,
                promised - share,
                f"Of the known pictures {_share(accepted, measured.images)} are "
                f"accepted, where the threshold promises at least {promised:.1%}.",
            )


def _renderings(measured: Measured) -> Iterator[Objection]:
    mild = _mild(measured)
    if not mild:
        return
    shares = [row["known"]["accepted"] for row in mild]
    worst = min(mild, key=lambda row: row["known"]["accepted"])
    yield from _object(
        "mild_known_mostly_lost",
        float(np.mean(shares)),
        f"Under {len(mild)} mild renderings, {np.mean(shares):.1%} of the known "
        "pictures are accepted on average.",
    )
    if measured.target is not None:
        yield from _object(
            "mild_known_lost",
            measured.target - worst["known"]["accepted"],
            f"Of the known pictures {worst['known']['accepted']:.1%} are accepted in "
            f'the mild rendering "{worst["title"]}", where the threshold aims at '
            f"{measured.target:.0%}.",
        )
    for kind in measured.unknown:
        if RULES["unknown_mostly_pass"].is_broken_by(kind.accepted / kind.images):
            continue  # Said already, untouched.
        loosest = _loosest(mild, kind.source)
        if loosest is None:
            continue
        share, title = loosest
        yield from _object(
            "mild_unknown_pass",
            share,
            f"Of the unknown pictures of {kind.title}, {share:.1%} pass in the mild "
            f'rendering "{title}".',
            kind.source,
        )


def _test_set(measured: Measured) -> Iterator[Objection]:
    sets: list[tuple[str, int, str | None]] = [
        ("known pictures", measured.images, None)
    ]
    sets += [
        (f"unknown pictures of {kind.title}", kind.images, kind.source)
        for kind in measured.unknown
    ]
    for what, images, source in sets:
        yield from _object(
            "few_pictures",
            images,
            f"Only {images} {what} were tested, which says little.",
            source,
        )
    unseen = sum(not kind.seen for kind in measured.unknown)
    yield from _object(
        "nothing_unseen",
        unseen,
        "No unknown pictures were tested but of kinds that training was shown; test "
        "others.",
    )
    if measured.target is not None and measured.promised is not None:
        yield from _object(
            "promise_wide",
            measured.target - measured.promised,
            f"The threshold aims at keeping {measured.target:.0%} of the known "
            f"pictures and may keep as few as {measured.promised:.1%}, for few known "
            "validation pictures chose it.",
        )


def _facts(measured: Measured) -> Iterator[str]:
    images, on = measured.images, measured.on
    if measured.accepted is None:
        yield (
            f"{_share(measured.right, images)} of the known {on} pictures get the "
            "right name."
        )
    else:
        yield (
            f"At this threshold {_share(measured.accepted, images)} of the known {on} "
            f"pictures are kept, {measured.accepted_right:,} of them under the right "
            "name."
        )
    for kind in measured.unknown:
        seen = ", a kind that training was shown" if kind.seen else ""
        where = "" if on == "test" else " where 95 % of the known ones do"
        yield (
            f"{_share(kind.accepted, kind.images)} of the unknown {on} pictures of "
            f"{kind.title} pass{where}{seen}."
        )
    if on == "validation":
        yield (
            "These pictures chose the epoch, so new ones will do somewhat worse; "
            "ood-evaluate measures that, and other unknown pictures."
        )
    mild = _mild(measured)
    if not mild:
        return
    shares = [row["known"]["accepted"] for row in mild]
    yield (
        f"Under {len(mild)} mild renderings (blurred, resized, turned, in other light) "
        f"{np.mean(shares):.1%} of the known pictures are kept on average, "
        f"{min(shares):.1%} in the worst."
    )
    for kind in measured.unknown:
        passing = _passing(mild, kind.source)
        if passing:
            yield (
                f"Of {kind.title}, {np.mean(passing):.1%} pass under them on average, "
                f"{max(passing):.1%} in the worst."
            )


def _mild(measured: Measured) -> list[Json]:
    """The steps of the mild renderings."""
    steps = (measured.renderings or {}).get("steps", ())
    return [row for row in steps if row["mild"]]


def _passing(mild: Sequence[Json], source: str) -> list[float]:
    return [
        1 - row["unknown"][source]["rejected"]
        for row in mild
        if source in row["unknown"]
    ]


def _loosest(mild: Sequence[Json], source: str) -> tuple[float, str] | None:
    """The largest share of unknown pictures that pass, and in which rendering."""
    passing = _passing(mild, source)
    if not passing:
        return None
    place = int(np.argmax(passing))
    titles = [row["title"] for row in mild if source in row["unknown"]]
    return passing[place], titles[place]


def _share(count: int, of: int) -> str:
    return f"{count:,} of {of:,} ({count / of:.1%})"
