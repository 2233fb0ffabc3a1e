"""A linter for results: relations between metrics that always hold."""

from decimal import Decimal
from typing import Any, Literal, NamedTuple

from ood_keras.metrics import measures

_FPR = ("fpr95_known_positive", "fpr95_unknown_positive")
_AUPR = ("aupr_in", "aupr_out")
# What has no record among the metrics of known against unknown scores.
_OTHERS = {"accuracy": (0, 1), "oscr": (0, 1)}
# Numbers are the result of arithmetic, in `StreamingRanking` of float32, and not of
# rounding for print.
_ARITHMETIC = 1e-5


class Inconsistency(NamedTuple):
    """One impossible set of numbers.

    Args:
        where: Keys that lead to it and texts that stand beside it, joined by "/".
        rule: The relation that should hold.
        values: Dict of the metrics in the rule, as given.
    """

    where: str
    rule: str
    values: dict

    def __str__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.values.items())
        return f"{self.where}: {values}, but always {self.rule}"


def check_consistency(
    results: Any, unit: Literal["fraction", "percent"] = "fraction"
) -> list[Inconsistency]:
    """Finds numbers that no detector on any data set can have.

    Run it on results before they are published, and on tables that others have. All
    rules hold for the exact, tie-grouped metrics of this room, in either convention of
    the FPR, for any number of images:

    * every metric lies in its limits: [0, 1], the detection error in [0, 1/2];
    * `1 - 2 e <= auroc <= 1 - 2 e^2` for the detection error e, since the curve touches
      the line TPR = FPR + 1 - 2 e and stays below it;
    * `min(0.05, f) / 2 <= e <= (0.05 + f) / 2` for either FPR f at 95 % TPR;
    * `0.95 (1 - f) <= auroc <= 1 - 0.025 f`, since the curve reaches 95 % TPR at f;
    * both FPRs are at most 0.05 or neither is: both say that the curve enters the same
      corner;
    * `auroc` is 1 if and only if `aupr_in` and `aupr_out` are;
    * `auroc + accuracy - 1 <= oscr <= min(auroc, accuracy)`.

    Args:
        results: The content of a `metrics.json`, the result of `evaluate_scores`, a
            list of table rows, or dicts and lists of these, however deep. Every dict
            that holds metrics by their names in `evaluate_scores` (and `accuracy`,
            `oscr`) is checked; `None` is a missing value. A number is taken as exact to
            1e-5, as in float32; a text, such as "93.0", as rounded to the digits that
            it shows.
        unit: "fraction" or "percent", for all metrics.

    Returns:
        A list of `Inconsistency`, one for each broken rule; print them. Empty if all is
        possible, which does not make it true.

    Raises:
        ValueError: `unit` is neither, or a metric is not a number.

    Example:

    >>> row = {"auroc": "62.0", "detection_error": "13.6"}
    >>> print(check_consistency({"odin": row}, unit="percent")[0])
    odin: auroc=62.0, detection_error=13.6, but always auroc >= 1 - 2 detection_error
    """
    if unit not in ("fraction", "percent"):
        raise ValueError(
            f'`unit` must be "fraction" or "percent". Received: unit={unit!r}'
        )
    scale = 1 if unit == "fraction" else 100
    limits = {name: measures.get(name).limits for name in measures.names()} | _OTHERS
    rules = [*_limit_rules(limits), *_RULES]
    found = []
    for where, cell in _cells(results, (), limits):
        low, high = {}, {}
        for name in limits:
            if cell.get(name) is not None:
                low[name], high[name] = _range(cell[name], scale, f"{where}/{name}")
        for names, rule, holds in rules:
            if all(name in low for name in names) and not holds(low, high):
                values = {name: cell[name] for name in names}
                found.append(Inconsistency(where, rule, values))
    return found


def _cells(results, path, fractions):
    """Yields `(where, dict)` for every dict that holds a metric."""
    if isinstance(results, dict):
        if any(name in results for name in fractions):
            labels = [
                value
                for name, value in results.items()
                if isinstance(value, str) and name not in fractions
            ]
            where = "/".join(path) or "results"
            yield f"{where} ({', '.join(labels)})" if labels else where, results
        for key, value in results.items():
            yield from _cells(value, (*path, str(key)), fractions)
    elif isinstance(results, (list, tuple)):
        for index, value in enumerate(results):
            yield from _cells(value, (*path, str(index)), fractions)


def _range(value, scale, where):
    """What a printed value may have been before rounding, as fractions."""
    try:
        number = float(value)
        half = _ARITHMETIC * scale
        if isinstance(value, str):
            half += 10.0 ** Decimal(value).as_tuple().exponent / 2
    except (TypeError, ValueError, ArithmeticError):
        raise ValueError(
            f"{where} must be a number, a text that shows one, or None. Received: "
            f"{value!r}"
        ) from None
    return (number - half) / scale, (number + half) / scale


def _limit_rules(limits):
    """Yields the rule that each metric lies within its limits, as `_rules` does."""
    for name, (lowest, highest) in limits.items():
        yield (
            (name,),
            f"{lowest:g} <= {name} <= {highest:g}",
            lambda low, high, name=name, lowest=lowest, highest=highest: (
                high[name] >= lowest and low[name] <= highest
            ),
        )


def _rules():
    """Yields `(names, rule, holds)`; `holds` gets the low and high end of each value.

    A rule is broken only if no values within the rounding keep it. NaN breaks it.
    """
    e = "detection_error"
    yield (
        ("auroc", e),
        f"auroc >= 1 - 2 {e}",
        lambda low, high: high["auroc"] >= 1 - 2 * high[e],
    )
    yield (
        ("auroc", e),
        f"auroc <= 1 - 2 {e}^2",
        lambda low, high: low["auroc"] <= 1 - 2 * max(low[e], 0) ** 2,
    )
    for f in _FPR:
        yield (
            (e, f),
            f"{e} <= (0.05 + {f}) / 2",
            lambda low, high, f=f: low[e] <= (0.05 + high[f]) / 2,
        )
        yield (
            (e, f),
            f"{e} >= min(0.05, {f}) / 2",
            lambda low, high, f=f: high[e] >= min(0.05, low[f]) / 2,
        )
        yield (
            ("auroc", f),
            f"auroc >= 0.95 (1 - {f})",
            lambda low, high, f=f: high["auroc"] >= 0.95 * (1 - high[f]),
        )
        yield (
            ("auroc", f),
            f"auroc <= 1 - 0.025 {f}",
            lambda low, high, f=f: low["auroc"] <= 1 - 0.025 * low[f],
        )
    for f, g in (_FPR, _FPR[::-1]):
        yield (
            (f, g),
            f"{g} <= 0.05 where {f} <= 0.05",
            lambda low, high, f=f, g=g: high[f] > 0.05 or low[g] <= 0.05,
        )
    for p in _AUPR:
        for a, b in ((p, "auroc"), ("auroc", p)):
            yield (
                (a, b),
                f"{b} = 1 where {a} = 1",
                lambda low, high, a=a, b=b: (
                    # Exactly 1: one of many pairs in the wrong order is below.
                    low[a] < 1 - 1e-9 - _ARITHMETIC or high[b] >= 1
                ),
            )
    for name in ("auroc", "accuracy"):
        yield (
            ("oscr", name),
            f"oscr <= {name}",
            lambda low, high, name=name: low["oscr"] <= high[name],
        )
    yield (
        ("oscr", "auroc", "accuracy"),
        "oscr >= auroc + accuracy - 1",
        lambda low, high: high["oscr"] >= low["auroc"] + low["accuracy"] - 1,
    )


_RULES = tuple(_rules())
