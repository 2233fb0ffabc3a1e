"""Numbers in, sentences out: each rule on both sides of its limit."""

import dataclasses
import json

import numpy as np
import pytest

from ood_keras import calibration
from ood_keras.evaluation import verdict

GOOD = verdict.Measured(
    images=1000,
    right=950,
    largest_class=150,
    accepted=960,
    accepted_right=930,
    unknown=[verdict.Kind("ships", images=400, accepted=20, auroc=0.97)],
    target=0.95,
    promised=0.94,
)


def rules(measured):
    return [objection.rule for objection in verdict.judge(measured).objections]


def change(**changes):
    return dataclasses.replace(GOOD, **changes)


def ships(**changes):
    return change(unknown=[dataclasses.replace(GOOD.unknown[0], **changes)])


def step(title="blur", *, accepted=0.95, rejected=0.95, mild=True):
    return {
        "title": title,
        "mild": mild,
        "known": {"accepted": accepted},
        "unknown": {"ships": {"rejected": rejected}},
    }


def test_a_good_classifier_has_nothing_against_it():
    found = verdict.judge(GOOD)
    assert (found.decision, list(found.objections)) == ("nothing_against", [])
    assert "nothing that was measured speaks against" in str(found)
    assert "960 of 1,000 (96.0%) of the known test pictures are kept, 930" in str(found)
    assert "20 of 400 (5.0%) of the unknown test pictures of ships pass" in str(found)


def test_43_percent_right_and_91_percent_of_the_unknown_accepted():
    found = verdict.judge(
        verdict.Measured(
            images=800,
            right=344,
            largest_class=100,
            accepted=768,
            accepted_right=330,
            unknown=[verdict.Kind("ships", images=800, accepted=728, auroc=0.64)],
            target=0.95,
            promised=0.93,
        )
    )
    assert found.decision == "do_not_ship"
    lines = str(found).splitlines()
    assert lines[0] == "Verdict: do not ship this model."
    assert any("728 of 800 (91.0%) of the unknown pictures" in line for line in lines)
    assert [objection.rule for objection in found.objections] == [
        "names_mostly_wrong",
        "unknown_mostly_pass",
        "auroc_low",
    ]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        # The largest class has 15 %, so a fifth of the way to 1 is at 32 %.
        (change(right=319, accepted_right=800), ["skill"]),
        (change(right=321, accepted_right=800), []),
        (change(accepted_right=479), ["names_mostly_wrong"]),
        (change(accepted_right=481), ["names_often_wrong"]),
        (change(accepted_right=769), []),
        (ships(accepted=201), ["unknown_mostly_pass"]),
        (ships(accepted=200), ["unknown_often_pass"]),
        (ships(accepted=80), []),
        (ships(auroc=0.59), ["auroc_near_chance"]),
        (ships(auroc=0.61), ["auroc_low"]),
        (ships(auroc=0.8), []),
        (change(accepted=830, accepted_right=825), ["promise_broken"]),
        (change(accepted=900, accepted_right=895), ["promise_missed"]),
        (change(accepted=925, accepted_right=920), []),
        # 3 of 40 fewer than promised may be chance; that 40 were rejected is not.
        (change(images=40, right=38, largest_class=5, accepted=34), []),
        (change(promised=0.84), ["promise_wide"]),
        (change(promised=0.86), []),
        # A threshold that weighs costs aims at no share.
        (change(promised=None, target=None), []),
        (ships(seen=True), ["nothing_unseen"]),
        (ships(images=29, accepted=1), ["few_pictures"]),
        (change(unknown=[]), ["nothing_unseen"]),
        (
            change(renderings={"steps": [step(accepted=0.4)]}),
            ["mild_known_mostly_lost"],
        ),
        (change(renderings={"steps": [step(accepted=0.84)]}), ["mild_known_lost"]),
        (change(renderings={"steps": [step(accepted=0.86)]}), []),
        (change(renderings={"steps": [step(rejected=0.4)]}), ["mild_unknown_pass"]),
        # What is not mild may do anything.
        (change(renderings={"steps": [step(accepted=0.0, mild=False)]}), []),
    ],
)
def test_each_rule_at_its_limit(measured, expected):
    assert rules(measured) == expected


def test_the_worst_comes_first_and_decides():
    measured = change(
        unknown=[
            verdict.Kind("cats", images=100, accepted=30, auroc=0.9),
            verdict.Kind("ships", images=100, accepted=90, auroc=0.9),
        ]
    )
    found = verdict.judge(measured)
    assert [objection.source for objection in found.objections] == ["ships", "cats"]
    assert found.decision == "do_not_ship"
    assert verdict.judge(ships(accepted=100)).decision == "look_first"


def test_validation_pictures_only_warn_of_what_they_can_tell():
    measured = verdict.Measured(
        images=20,
        right=8,
        largest_class=7,
        unknown=[
            verdict.Kind("synthetic", images=500, accepted=10, auroc=0.99, seen=True)
        ],
        on="validation",
    )
    found = verdict.judge(measured)
    # 8 of 20 against 7 of 20. Too few, and nothing unseen: true of any validation set.
    assert [one.rule for one in found.objections] == ["skill", "names_mostly_wrong"]
    assert "ood-evaluate measures that" in str(found)
    better = dataclasses.replace(measured, right=19)
    assert "nothing on the validation pictures" in verdict.judge(better).said


def test_facts_tell_what_mild_renderings_do():
    steps = [step(), step("turned", accepted=0.85, rejected=0.8), step(mild=False)]
    facts = verdict.judge(change(renderings={"steps": steps})).facts
    assert "90.0% of the known pictures are kept on average, 85.0% in the" in facts[2]
    assert facts[3] == "Of ships, 12.5% pass under them on average, 20.0% in the worst."


def test_counts_are_those_of_the_arrays():
    labels = np.array([0, 0, 1, 1, 1])
    accepted = np.array([True, False, True, True, False])
    threshold = calibration.conformal(np.linspace(0, 1, 200))
    measured = verdict.count(
        labels=labels,
        predictions=np.array([0, 1, 1, 0, 1]),
        accepted=accepted,
        unknown={"x": (np.array([True, False]), {"auroc": 0.9, "seen": True})},
        threshold=threshold,
    )
    assert measured == verdict.Measured(
        images=5,
        right=3,
        largest_class=3,
        accepted=3,
        accepted_right=2,
        unknown=[verdict.Kind("x", images=2, accepted=1, auroc=0.9, seen=True)],
        target=0.95,
        promised=threshold.acceptance_interval[0],
    )


def test_json_says_all_of_it():
    found = verdict.judge(ships(accepted=300))
    content = json.loads(json.dumps(found.to_json()))
    assert content["decision"] == "do_not_ship"
    (objection,) = content["objections"]
    assert objection == {
        "rule": "unknown_mostly_pass",
        "severity": "do_not_ship",
        "sentence": "300 of 400 (75.0%) of the unknown pictures of ships pass as "
        "known.",
        "value": 0.75,
        "limit": 0.5,
        "why": verdict.RULES["unknown_mostly_pass"].why,
        "source": "ships",
    }
    assert verdict.format_json(content) == str(found)


def test_names_of_sources_stay_on_their_line():
    assert len(str(verdict.judge(ships(source="a\nb\x1b[2J"))).splitlines()) == 3


def test_impossible_numbers_are_errors():
    with pytest.raises(ValueError, match="needs known pictures"):
        verdict.judge(change(images=0))
    with pytest.raises(ValueError, match="of 400 unknown pictures of ships, 401"):
        verdict.judge(ships(accepted=401))
