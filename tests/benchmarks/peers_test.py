import json
import pathlib
import sys
import textwrap
import types

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "benchmarks" / "peers"

FAKE_LIBRARY = """
    import sys
    sys.path.insert(0, {folder!r})
    import protocol

    class Fake:
        def versions(self):
            return {{"fake": "1.0", "argument": sys.argv[1]}}

        def names(self):
            return ["sum"]

        def load(self, weights):
            print("a library that prints")
            self.bias = weights["bias"]

        def logits(self, images, batch_size):
            return images * 2

        def fit(self, name, images, labels, batch_size):
            if name != "sum":
                raise KeyError(name)

        def score(self, images, batch_size):
            return protocol.in_batches(
                lambda batch: batch.sum(axis=1) + self.bias, images, batch_size
            )

        def score_features(self, features, batch_size):
            return features

    protocol.serve(Fake())
"""


@pytest.fixture
def peers(monkeypatch):
    """The modules of benchmarks/peers, as its scripts import each other."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("compare", "network", "notes", "protocol", "side_ours")
    import compare
    import network
    import notes
    import protocol
    import side_ours

    yield {
        "compare": compare,
        "network": network,
        "notes": notes,
        "protocol": protocol,
        "ours": side_ours,
    }
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def side(peers, tmp_path):
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE_LIBRARY.format(folder=str(FOLDER))))
    np.savez(tmp_path / "weights.npz", bias=np.float32(10))
    np.save(tmp_path / "images.npy", np.arange(6, dtype=np.float32).reshape(3, 2))
    side = peers["protocol"].Side(sys.executable, script, "matched")
    yield side
    side.close()


class TestProtocol:
    def test_a_side_answers_and_keeps_what_it_prints_out_of_it(self, side, tmp_path):
        loaded = side.ask("load", weights=tmp_path / "weights.npz")
        assert loaded == {
            "versions": {"fake": "1.0", "argument": "matched"},
            "names": ["sum"],
        }
        output = tmp_path / "scores.npy"
        images = tmp_path / "images.npy"
        answer = side.ask("score", images=images, batch_size=2, output=output)
        assert answer["seconds"] > 0
        np.testing.assert_array_equal(np.load(output), [11, 15, 19])
        side.ask("score", images=images, batch_size=2, output=output, first=1)
        np.testing.assert_array_equal(np.load(output), [11])
        side.ask("logits", images=images, batch_size=2, output=output, first=1)
        np.testing.assert_array_equal(np.load(output), [[0, 2]])

    def test_an_error_is_told_and_the_side_goes_on(self, peers, side, tmp_path):
        side.ask("load", weights=tmp_path / "weights.npz")
        data = {"images": tmp_path / "images.npy", "labels": tmp_path / "images.npy"}
        with pytest.raises(peers["protocol"].SideError, match="KeyError: 'knn'"):
            side.ask("fit", detector="knn", batch_size=2, **data)
        side.ask("fit", detector="sum", batch_size=2, **data)

    def test_a_side_that_ended_is_an_error(self, peers, side):
        side.close()
        side = peers["protocol"].Side(sys.executable, "missing_script.py")
        with pytest.raises(peers["protocol"].SideError, match="ended"):
            side.ask("load", weights="weights.npz")


class TestCompare:
    def test_differences_are_listed_by_sign_and_rounding_is_not(self, peers):
        cells = {
            "knn": {"ours": 0.9, "oodeel": 0.9004, "pytorch_ood": 0.8},
            "she": {"ours": 0.7, "oodeel": 0.75},
            "unheard_of": {"ours": 0.7, "oodeel": 0.75},
            "ours_only": {"ours": 0.5},
        }
        found = peers["compare"].differences({"mnist": {"kmnist": cells}})
        assert [
            (cell["detector"], cell["peer"], cell["difference"], cell["explained"])
            for cell in found["ours_lower"]
        ] == [
            ("she", "oodeel", -0.05, True),
            ("unheard_of", "oodeel", -0.05, False),
        ]
        assert [(cell["detector"], cell["peer"]) for cell in found["ours_higher"]] == [
            ("knn", "pytorch_ood")
        ]

    def test_rounds_take_turns_and_the_first_is_not_counted(self, peers):
        class Recorder:
            def __init__(self, name, seconds):
                self.name, self.seconds = name, iter(seconds)

            def ask(self, command, **arguments):
                asked.append(self.name)
                return {"seconds": next(self.seconds)}

        asked = []
        sides = {
            "ours": Recorder("ours", [100.0, 1.0, 2.0, 9.0]),
            "peer": Recorder("peer", [100.0, 4.0, 5.0, 6.0]),
        }
        speeds = peers["compare"].time_sides(sides, 3, 10, "score", images="x")
        assert speeds == {"ours": 5.0, "peer": 2.0}
        assert peers["compare"].ratios(speeds) == {"peer": 2.5}
        assert asked == ["ours", "peer", "peer", "ours"] * 2

    def test_the_network_alone_limits_the_ratios(self, peers):
        speeds = {
            "network": {"ours": 20.0, "peer": 18.0},
            "knn": {"ours": 10.0, "peer": 5.0},
            "mahalanobis_features": {"ours": 900.0, "peer": 9.0},
        }
        assert peers["compare"].ratio_limits(speeds) == {"knn": {"peer": 4.0}}

    def test_a_side_with_other_logits_is_refused(self, peers, side, tmp_path):
        side.ask("load", weights=tmp_path / "weights.npz")
        images = np.load(tmp_path / "images.npy")
        check = peers["compare"].check_logits
        check("fake", side, tmp_path / "images.npy", 2 * images, tmp_path)
        with pytest.raises(RuntimeError, match="not run the same network"):
            check("fake", side, tmp_path / "images.npy", 2.01 * images, tmp_path)


class FakeSide:
    """Scores by the sum of an image and remembers what it was asked."""

    def __init__(self, fails=False):
        self.fails = fails
        self.asked = []

    def ask(self, command, images, output=None, **arguments):
        self.asked.append(command)
        if command == "fit" and self.fails:
            raise ValueError("no inverse. It was singular.")
        if output is not None:
            np.save(output, np.load(images).sum(axis=1))
        return {"seconds": 2.0}


class TestResume:
    @pytest.fixture
    def paths(self, tmp_path):
        paths = {"known": tmp_path / "known.npy", "noise": tmp_path / "noise.npy"}
        np.save(paths["known"], np.zeros((4, 2), np.float32))
        np.save(paths["noise"], np.ones((4, 2), np.float32))
        return paths

    @pytest.fixture
    def run(self, peers, paths):
        sizes = types.SimpleNamespace(num_timed=4, num_test=4, rounds=1)
        fit_paths = {"images": paths["known"], "labels": paths["known"]}

        def run(sides, timed, row):
            peers["compare"].run_detector(
                "knn", sides, fit_paths, paths, timed, sizes, row
            )

        return run

    def test_scores_first_and_speed_later(self, run):
        row, side = {}, FakeSide()
        run({"ours": side}, False, row)
        assert row == {"auroc": {"noise": {"ours": 1.0}}, "failures": {}}
        assert side.asked == ["fit", "score"]
        run({"ours": side}, False, row)
        assert len(side.asked) == 2  # nothing was missing
        run({"ours": side}, True, row)
        assert row["per_second"] == {"knn": {"ours": 2.0}}
        assert side.asked[2:] == ["fit", "score", "score"]  # two timed rounds

    def test_known_and_unknown_images_come_mixed(self, peers, paths):
        class Ranks(FakeSide):
            def ask(self, command, images, output, **arguments):
                rows = np.load(images)[:, 0]
                assert 0 < rows[:4].sum() < 4, "one source alone at the start"
                np.save(output, rows * 10 + 1)

        scores = peers["compare"].score_all(Ranks(), paths)
        np.testing.assert_array_equal(scores["known"], np.full(4, 1))
        np.testing.assert_array_equal(scores["noise"], np.full(4, 11))

    def test_what_a_side_cannot_do_is_written_down(self, run):
        row = {}
        run({"ours": FakeSide(), "peer": FakeSide(fails=True)}, True, row)
        assert row["failures"] == {"peer": "no inverse"}
        assert list(row["auroc"]["noise"]) == ["ours"]
        assert list(row["per_second"]["knn"]) == ["ours"]

    def test_a_row_is_kept_unless_it_was_stopped_half_way(self, peers, tmp_path):
        kept, path = peers["compare"].kept, tmp_path / "row.json"
        with pytest.raises(KeyboardInterrupt), kept(path) as row:
            row["auroc"] = {}
            raise KeyboardInterrupt
        assert not path.exists()
        with kept(path) as row:
            row["auroc"] = {"noise": {}}
        with kept(path) as row:
            assert row == {"auroc": {"noise": {}}}

    def test_a_folder_of_other_sizes_is_refused(self, peers, tmp_path):
        check = peers["compare"].check_work_dir
        sizes = dict.fromkeys(peers["compare"].SIZES, 5)
        folder = tmp_path / "work"
        check(folder, types.SimpleNamespace(**sizes))
        check(folder, types.SimpleNamespace(**sizes))
        with pytest.raises(SystemExit, match="another --work_dir"):
            check(folder, types.SimpleNamespace(**{**sizes, "num_fit": 6}))


class TestNetwork:
    def test_the_weights_make_the_same_network_again(self, peers):
        network = peers["network"]
        model = network.build(3)
        again = network.from_weights(network.get_weights(model))
        images = np.random.default_rng(0).random((2, *network.INPUT_SHAPE), np.float32)
        np.testing.assert_array_equal(again(images), model(images))

    def test_our_side_scores_images_and_features(self, peers):
        network, random = peers["network"], np.random.default_rng(0)
        images = random.random((60, *network.INPUT_SHAPE), np.float32)
        labels = np.arange(60) % 3
        ours = peers["ours"].Ours()
        ours.load(network.get_weights(network.build(3)))
        ours.fit("knn_two_layers", images, labels, 32)
        assert ours.score(images, 32).shape == (60,)
        ours.fit("mahalanobis", images, labels, 32)
        features = random.random((5, network.NUM_FEATURES), np.float32)
        assert ours.logits(images, 32).shape == (60, 3)
        assert ours.score(images, 32).shape == (60,)
        assert ours.score_features(features, 2).shape == (5,)


def test_every_note_is_about_a_detector_and_a_peer(peers):
    known = set(peers["ours"].DETECTORS)
    sides = set(peers["compare"].SCRIPTS) - {"ours"}
    for detector, texts in peers["notes"].NOTES.items():
        assert detector in known
        assert set(texts) <= sides


def test_every_detector_of_our_side_can_be_made(peers):
    from ood_keras import detectors

    for name, arguments in peers["ours"].DETECTORS.values():
        detectors.get(name, **arguments)


def test_committed_results_leave_no_difference_unexplained():
    path = FOLDER.parent / "results" / "peers.json"
    differences = json.loads(path.read_text())["differences"]
    for cell in differences["ours_lower"] + differences["ours_higher"]:
        assert cell["explained"], cell


def test_the_guides_name_every_detector_and_threshold():
    from ood_keras import calibration, detectors

    guides = FOLDER.parents[1] / "docs" / "guides"
    guide = "".join(
        (guides / f"{name}.md").read_text(encoding="utf-8")
        for name in ("detectors", "thresholds")
    )
    functions = [name for name in calibration.__all__ if name.islower()]
    left_out = {"benjamini_hochberg", "clopper_pearson", "smallest_num_images"}
    left_out |= {"get", "names", "register"}
    for name in [*detectors.names(), *set(functions) - left_out]:
        assert f"`{name}`" in guide or f"`{name}(" in guide, name
