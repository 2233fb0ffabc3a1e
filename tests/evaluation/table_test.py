"""The table for a terminal, letter by letter."""

from ood_keras.evaluation import format_table


def _row(seen, auroc):
    return {
        "seen": seen,
        "auroc": auroc,
        "aupr_in": 0.5,
        "aupr_out": 0.25,
        "detection_error": 0.01234,
        "fpr95_known_positive": 0.0,
        "fpr95_unknown_positive": 1.0,
    }


def test_one_detector():
    metrics = {
        "known": {"source": "mnist", "accuracy": 0.9952},
        "detectors": {"msp": {"unknown": {"kmnist": _row(False, 0.998)}}},
        "selected_detector": "msp",
    }
    assert format_table(metrics).split("\n") == [
        "known: mnist, accuracy 99.52 %",
        "selected detector: msp (all numbers in percent)",
        "",
        "unknown  AUROC  AUPR in  AUPR out  det. error  FPR95 known+  FPR95 unknown+",
        "-------  -----  -------  --------  ----------  ------------  --------------",
        "kmnist   99.80    50.00     25.00        1.23          0.00          100.00",
    ]


def test_the_interval_of_auroc_stands_beside_it():
    rows = {
        "kmnist": _row(False, 0.998) | {"auroc_interval": [0.99649, 0.99921]},
        "one": _row(False, 1.0) | {"auroc_interval": None},
    }
    metrics = {
        "known": {"source": "mnist", "accuracy": 0.9952},
        "detectors": {"msp": {"unknown": rows}},
        "selected_detector": "msp",
    }
    lines = [line[:40] for line in format_table(metrics).split("\n")[3:]]
    assert lines == [
        "unknown   AUROC  (95 % interval)  AUPR i",
        "-------  ------  ---------------  ------",
        "kmnist    99.80   99.65 to 99.92    50.0",
        "one      100.00          unknown    50.0",
    ]


def test_without_a_classifier_there_is_no_accuracy():
    metrics = {
        "known": {"source": "mnist", "accuracy": None},
        "detectors": {"ratio": {"unknown": {"kmnist": _row(False, 0.998)}}},
        "selected_detector": "ratio",
    }
    assert format_table(metrics).startswith("known: mnist, no classifier\n")


def test_several_detectors_and_seen_sources():
    metrics = {
        "known": {"source": "mnist", "accuracy": 0.9952},
        "detectors": {
            "msp": {"unknown": {"letters": _row(True, 0.9), "k": _row(False, 0.8)}},
            "energy": {"unknown": {"letters": _row(True, 0.7), "k": _row(False, 1.0)}},
        },
        "selected_detector": "energy",
    }
    lines = format_table(metrics).split("\n")
    assert lines[1].startswith("selected detector: energy")
    assert lines[5].split()[:4] == ["letters", "*", "70.00", "50.00"]
    assert lines[8:] == [
        "AUROC / FPR95 known+ of every detector",
        "",
        "unknown             msp         energy",
        "---------  ------------  -------------",
        "letters *  90.00 / 0.00   70.00 / 0.00",
        "k          80.00 / 0.00  100.00 / 0.00",
        "",
        "* seen: training was exposed to other images of this source",
    ]


def test_many_detectors_are_rows():
    metrics = {
        "known": {"source": "mnist", "accuracy": 0.9952},
        "detectors": {
            f"detector_{number}": {
                "unknown": {"letters": _row(True, 0.9), "k": _row(False, number / 10)}
            }
            for number in range(9)
        },
        "selected_detector": "detector_3",
    }
    lines = format_table(metrics).split("\n")
    assert lines[8:13] == [
        "AUROC / FPR95 known+ of every detector",
        "",
        "unknown        letters *             k",
        "----------  ------------  ------------",
        "detector_0  90.00 / 0.00   0.00 / 0.00",
    ]
    assert max(map(len, lines)) < 80
    assert sum(line.startswith("detector_") for line in lines) == 9
