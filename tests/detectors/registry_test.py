import numpy as np
import pytest

from ood_keras import detectors


def test_names_and_get():
    assert {
        "unknown_probability",
        "msp",
        "max_logit",
        "energy",
        "objectosphere",
    } <= set(detectors.names())
    for name in detectors.names():
        assert detectors.get(name).name == name
    with pytest.raises(ValueError, match="one of: unknown_probability, msp"):
        detectors.get("no_such_detector")


def test_bad_hyper_parameters_fail_at_once():
    with pytest.raises(ValueError, match="temperature"):
        detectors.get("energy", temperature=0.0)
    with pytest.raises(ValueError, match="on="):
        detectors.get("objectosphere", on="logits")
    with pytest.raises(ValueError, match="at least 2"):
        detectors.get("msp", num_classes=1)


def test_num_classes_is_inferred_or_asked_for(trained, data):
    assert detectors.get("msp").fit(trained[4], data.train).num_classes == 3
    assert detectors.get("unknown_probability").fit(trained[4]).num_classes == 3
    assert detectors.get("msp", num_classes=4).fit(trained[4]).num_classes == 4
    with pytest.raises(ValueError, match="num_classes="):
        detectors.get("msp").fit(trained[4])
    with pytest.raises(ValueError, match="images only"):
        detectors.get("msp").fit(trained[4], data.known)
    with pytest.raises(ValueError, match="no known image"):
        detectors.get("msp").fit(trained[4], (data.known[:0], data.train[1][:0]))
    with pytest.raises(ValueError, match="unknown class"):
        detectors.get("unknown_probability").fit(trained[3], data.train)


def test_a_failed_fit_leaves_nothing_fitted(trained, data):
    detector = detectors.get("msp").fit(trained[3], data.train)
    with pytest.raises(ValueError, match="logits"):
        detector.fit(trained[3], (data.train[0], data.train[1] + 5))
    with pytest.raises(RuntimeError, match="call fit"):
        detector.score(data.known)


def test_the_unknown_logit_is_no_known_class(trained, data):
    logits = detectors.Network(trained[4])(data.unknown)["logits"]
    detector = detectors.get("max_logit").fit(trained[4], data.train)
    np.testing.assert_allclose(
        detector.score(data.unknown), -np.max(logits[:, :3], axis=1), rtol=1e-5
    )


def test_load_tells_what_is_wrong(trained, data, tmp_path):
    with pytest.raises(FileNotFoundError, match="no detector"):
        detectors.load(tmp_path, trained[3])
    energy = detectors.get("energy").fit(trained[3], data.train)
    path = detectors.save(energy, tmp_path)
    with pytest.raises(ValueError, match="another model"):
        detectors.load(path, trained[4])
    detectors.save(detectors.get("msp").fit(trained[3], data.train), tmp_path)
    with pytest.raises(ValueError, match="several"):
        detectors.load(tmp_path, trained[3])
    path.with_suffix(".npz").write_bytes(b"truncated")
    with pytest.raises(ValueError, match="save it again"):
        detectors.load(path, trained[3])
    with pytest.raises(RuntimeError, match="call fit"):
        detectors.save(detectors.get("msp"), tmp_path)
