"""Whatever classes, sources and detectors are called, what shows them lives."""

import csv
import html
import inspect
import io
import json
import re
import warnings

import keras
import numpy as np
import pytest
from matplotlib import cbook, text

from ood_keras import calibration, detectors, evaluation, export, names
from ood_keras.evaluation import figures, style
from ood_keras.inference import answer_files
from ood_keras.metrics import measures

NASTY = [
    "$x^{$",
    "$\\frac{$ and \\$",
    "<b>bold</b><script>alert(1)</script>",
    "&lt;&amp;",
    "x" * 300,
    "x" * 150 + "y" + "x" * 149,
    "שלום עולם \u202egnp.exe",
    "🦊🦊",
    "🐻🐻",
    "漢字",
    "new\nline\ttab\rreturn",
    "=HYPERLINK(1)",
    "@\"quoted\", 'too'",
    "a|b`c``d*e_f_[g](h)",
    "slash/../back\\slash",
    "nul\0inside",
    "caf\udce9",
    "{{ 7 * 7 }}{% raw %}",
    "e\u0301\u0301\u0301" * 20,
    " ",
]
NUM = len(NASTY)
# For what draws a panel, and a layout, for each.
SOME = [NASTY[row] for row in (0, 2, 4, 7, 10, 16)]


@pytest.fixture(autouse=True)
def no_warning():
    """A missing glyph warns, once for each character and text."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of other packages, at their import.
        warnings.simplefilter("default", DeprecationWarning)
        warnings.simplefilter("default", FutureWarning)
        yield


def scores(seed, count=12):
    return np.random.default_rng(seed).normal(size=count)


def sources(chosen=NASTY):
    return {name: scores(seed) for seed, name in enumerate(chosen)}


def features(count=2 * NUM):
    return np.random.default_rng(0).normal(size=(count, 2))


def measured():
    point = {
        "strength": 0.0,
        "known": {"accuracy": 1.0, "rejected": 0.1, "accepted_wrong": 0.0},
        "unknown": {name: {"auroc": 0.5} for name in NASTY},
    }
    perturbations = {name: [point, {**point, "strength": 0.1}] for name in NASTY[:3]}
    return {
        "seen": NASTY[:2],
        "detectors": {name: {"perturbations": perturbations} for name in NASTY[3:6]},
    }


FIGURES = {
    "roc": lambda: figures.roc(scores(99), sources(), seen=NASTY[:3]),
    "density": lambda: figures.density(
        scores(99), sources(SOME), threshold=0.0, seen=NASTY[:3]
    ),
    "score_among": lambda: figures.score_among(0.5, scores(99), threshold=0.0),
    "perturbed_density": lambda: figures.perturbed_density(
        sources(SOME), scores(99), threshold=0.0
    ),
    "features_2d": lambda: figures.features_2d(
        features(),
        np.arange(2 * NUM) % NUM,
        {name: features(3) for name in NASTY},
        class_names=NASTY,
    ),
    "compare_features": lambda: figures.compare_features(
        {
            title: (features(), np.arange(2 * NUM) % NUM, {NASTY[7]: features(3)})
            for title in NASTY[:3]
        },
        class_names=NASTY,
    ),
    "grid": lambda: figures.grid(
        scores(99),
        sources(SOME),
        features(),
        np.arange(2 * NUM) % NUM,
        {name: features(3) for name in SOME},
        threshold=0.0,
        class_names=NASTY,
        what=NASTY[0],
    ),
    "pictures": lambda: figures.pictures(
        {name: (np.zeros((2, 4, 4, 3)), [name, f"{name}\n{name}"]) for name in NASTY}
    ),
    "robustness": lambda: figures.robustness({name: measured() for name in NASTY[6:8]}),
    "training_curve": lambda: figures.training_curve(
        {name: ([1, 2], [0.1, 0.2]) for name in NASTY}, title=NASTY[0]
    ),
}
NO_FIGURES = {"plane", "mean_auroc"}


def test_every_figure_is_tried():
    functions = {
        name for name, value in vars(figures).items() if inspect.isfunction(value)
    }
    assert functions == set(figures.__all__) == FIGURES.keys() | NO_FIGURES


@pytest.mark.parametrize("name", FIGURES)
def test_figures_take_any_name(name):
    figure = FIGURES[name]()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    written = [one for one in figure.findobj(text.Text) if one.get_visible()]
    for one in written:
        # Ticks may hold formulas of Matplotlib's own.
        if "\\mathdefault" not in one.get_text():
            assert not cbook.is_math_text(one.get_text())
    if name in ("roc", "features_2d"):
        shown = [one.get_text() for one in written]
        assert len(set(shown)) >= NUM
        assert any(r"\$x^{\$" in line for line in shown)
        # Numbers behind a name that is written from the right stay on its right.
        (hebrew,) = [line for line in shown if NASTY[6][0] in line]
        assert hebrew[0] == style.LEFT_TO_RIGHT
        assert style.LEFT_TO_RIGHT in hebrew[1:]
        assert max(map(len, shown)) < 80


def test_short_names_stay_different_and_are_the_names_where_they_fit():
    short = style.shorten(NASTY, 20)
    assert len(set(short)) == NUM
    marks = str.maketrans("", "", "\\" + style.LEFT_TO_RIGHT)
    assert all(len(one.translate(marks)) <= 20 for one in short)
    assert short[-1] == style.MISSING
    assert short[0] == r"\$x^{\$"
    assert short[4].startswith("xxxx") and "…" in short[4]
    assert short[7] != short[8]
    assert style.shorten(["cat", "Katze", "猫"]) == ["cat", "Katze", style.MISSING]
    long = ["folder:/data/pictures/train/cats", "folder:/data/pictures/train/dogs"]
    assert [one[-4:] for one in names.shorten(long, 20)] == ["cats", "dogs"]
    # A name given twice is one name.
    assert names.shorten(["a", "a"], 20) == ["a", "a"]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(NUM),
        ]
    )


def pictures(count, seed=0):
    shape = (count, 6, 6, 1)
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def test_a_report_takes_any_name(model, tmp_path):
    names_of = [name.replace("/", "|") for name in NASTY[:4]]
    # The last two would end, and break, the names in a zip file.
    sources_of = [NASTY[row] for row in (0, 3, 4, 11, 15, 16)]
    detector = detectors.get("energy", num_classes=NUM).fit(model)
    report = evaluation.evaluate(
        dict.fromkeys(names_of, detector),
        known=(NASTY[2], (pictures(2 * NUM), np.arange(2 * NUM) % NUM)),
        unknown={name: pictures(6, seed) for seed, name in enumerate(sources_of)},
        seen=sources_of[1:3],
        selected_detector=names_of[0],
        class_names=NASTY,
        protocol={name: name for name in NASTY} | {"classes": NASTY},
        progress=False,
    )
    report.save(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "\0" not in page and "\u202e" not in page
    for name in NASTY[:6]:  # In the protocol; sources in the tables too.
        assert html.unescape(page).count(name) >= (3 if name in sources_of else 1)
    assert html.escape(NASTY[4]) in page
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["known"]["source"] == NASTY[2]
    unknown = metrics["detectors"][names_of[0]]["unknown"]
    assert list(unknown) == sources_of
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as kept:
        for name, scored in report.scores.items():
            np.testing.assert_array_equal(kept[names.valid(name)], scored)
        assert len(kept.files) == len(report.scores)
    for line in str(report).splitlines():
        line.encode()
        assert line.isprintable()
    evaluation.record_examples(report, tmp_path / "examples.npz")
    loaded = evaluation.load_examples(tmp_path / "examples.npz")
    assert loaded["class_names"][0] == NASTY[0]


def test_a_robustness_report_takes_any_name(model, tmp_path):
    detector = detectors.get("energy", num_classes=NUM).fit(model)
    threshold = calibration.quantile(detector.score(pictures(20)), 0.9)
    evaluation.robustness.evaluate(
        {NASTY[0]: detector},
        {NASTY[0]: threshold},
        known=(NASTY[2], (pictures(NUM), np.arange(NUM))),
        unknown={NASTY[4]: pictures(6, 1), NASTY[7]: pictures(6, 2)},
        perturbations={"white_noise": (0.1,)},
        class_names=NASTY,
        progress=False,
    ).save(tmp_path)
    assert (tmp_path / "figures" / "robustness_inputs.png").is_file()


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    detector = detectors.get("energy", num_classes=NUM).fit(model)
    images = pictures(40)
    threshold = calibration.quantile(detector.score(images), 0.9)
    rows = {key: 0.5 for key in measures.names()}
    unknown = {name: {"seen": False, **rows} for name in NASTY}
    folder = tmp_path_factory.mktemp("names")
    return export.saved_model(
        model,
        detector,
        threshold,
        folder / "m" / "1",
        class_names=NASTY,
        operating_points={NASTY[0]: threshold},
        metrics={
            "known": {"source": NASTY[13], "accuracy": 0.5},
            "detectors": {"energy": {"unknown": unknown}},
        },
        training={
            "recipe": NASTY[13],
            "data": {name: {"images": 1, "sha256": "0"} for name in NASTY},
            "licences": {name: name for name in NASTY},
        },
        sample_images=images,
    )


def test_an_exported_model_answers_with_any_name(exported, tmp_path):
    images = pictures(40)
    expected = [names.valid(name) for name in NASTY]
    predictor = export.load(exported)
    assert list(predictor.class_names) == expected
    answer = predictor.predict(images, threshold=np.inf)
    assert list(answer["label"]) == [expected[row] for row in answer["class_id"]]
    assert len(set(answer["class_id"])) > 3
    export.tflite(exported, tmp_path / "t", known_images=images, formats=["float32"])
    export.onnx(exported, tmp_path / "o", known_images=images)
    for copy in (tmp_path / "t" / "float32", tmp_path / "o"):
        found = export.load(copy).predict(images, threshold=np.inf)
        assert list(found["label"]) == list(answer["label"])


def test_the_card_shows_any_name(exported):
    card = (exported / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "\0" not in card and "\u202e" not in card
    # In code, where Markdown changes nothing.
    assert "`$x^{$`" in card
    assert "`<b>bold</b><script>alert(1)</script>`" in card
    assert "``` a|b`c``d*e_f_[g](h) ```" in card
    assert "``` a\\|b`c``d*e_f_[g](h) ```" in card
    # Elsewhere, with what means something escaped.
    assert r"\$x^{\$" in card and r"\<b\>" in card and r"\&lt;" in card
    tables = [line for line in card.splitlines() if line.startswith("| ")]
    bars = [len(re.findall(r"(?<!\\)\|", line)) for line in tables]
    assert set(bars) <= {3, 4, 5, 9, 3 + len(measures.names()), 6}
    for line in tables:
        assert line.endswith("|")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_rows_hold_any_name(suffix):
    rows = [
        {
            "path": f"{label}.png",
            "index": None,
            "class_id": row,
            "label": label,
            "ood_score": 0.5,
            "accepted": True,
            "valid": True,
            "error": None,
            "probabilities": [0.0] * NUM,
        }
        for row, label in enumerate(NASTY)
    ]
    content = answer_files.head(suffix, NASTY, True)
    content = (content + answer_files.encode(suffix, rows, True)).decode()
    if suffix == ".jsonl":
        lines = [json.loads(line) for line in content.splitlines()]
        assert [line["label"] for line in lines] == [names.valid(n) for n in NASTY]
        return
    assert content.count("\n") == NUM + 1
    head, *lines = csv.reader(io.StringIO(content, newline=""))
    assert head[-1] == f"probability_{NASTY[-1]}"
    for line, name in zip(lines, NASTY, strict=True):
        assert len(line) == len(head)
        assert line[3] == names.printable(name)
        assert line[0] == f"{names.printable(name)}.png"
