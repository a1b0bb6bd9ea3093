"""Margin adequacy: what is posted beside what is required, by asset and leverage.

Requirements are equities at the mark, USD, from `risk.liquidation.tails.required_margins`; this
adds them up. Method: ``docs/methods/margin_adequacy.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

#: Lower edges of the leverage buckets: notional over equity.
LEVERAGE_EDGES = (0.0, 2.0, 5.0, 10.0, 20.0, 50.0)

LEVERAGE_LABELS = ("under 2x", "2x to 5x", "5x to 10x", "10x to 20x", "20x to 50x", "50x and more")

#: Label of a row over every asset, or every leverage.
ALL = "all"


def tool_margins(
    required: np.ndarray,
    stressed: np.ndarray,
    long_run: np.ndarray,
    *,
    buffer: float = 0.25,
    stressed_weight: float = 0.25,
) -> dict[str, np.ndarray]:
    """Requirements (position,) under the three tools against procyclicality.

    Parameters
    ----------
    required, stressed, long_run : ndarray (position,)
        Requirements at today's volatility, at stressed volatility and at that of ten years.
    buffer : float
        Added to every requirement in calm times, to be used up in a crisis.
    stressed_weight : float
        Weight of the stressed requirement.

    Returns
    -------
    dict
        ``buffer``, ``stressed_weight`` and ``floor``.

    References
    ----------
    .. [1] Commission Delegated Regulation (EU) No 153/2013, Article 28(1): a buffer of at least
       25 %, a weight of at least 25 % for stressed observations, or a floor from the volatility
       of ten years.

    Examples
    --------
    >>> import numpy as np
    >>> tools = tool_margins(np.array([100.0]), np.array([300.0]), np.array([80.0]))
    >>> [(name, float(value[0])) for name, value in tools.items()]
    [('buffer', 125.0), ('stressed_weight', 150.0), ('floor', 100.0)]
    """
    return {
        "buffer": required * (1 + buffer),
        "stressed_weight": (1 - stressed_weight) * required
        + stressed_weight * np.maximum(stressed, required),
        "floor": np.maximum(required, long_run),
    }


def leverage_bucket(notional: np.ndarray, equity: np.ndarray) -> np.ndarray:
    """Bucket (position,) of the leverage a position really has: notional over equity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        leverage = np.where(equity > 0, notional / equity, np.inf)
    return np.searchsorted(np.array(LEVERAGE_EDGES), leverage, side="right") - 1


def adequacy_table(
    assets: Sequence[str], asset: np.ndarray, columns: Mapping[str, np.ndarray]
) -> pa.Table:
    """Totals by asset and leverage, with the totals over either.

    Parameters
    ----------
    assets : sequence of str
    asset : ndarray of int (position,)
        Index into `assets`.
    columns : mapping of str to ndarray (position,)
        ``notional``, ``equity`` and the requirements ``required``, ``required_stressed``,
        ``liquidation``, ``liquidation_stressed``, ``required_99``, ``required_995``, ``buffer``,
        ``stressed_weight``, ``floor``; and what one more unit of collateral changes:
        ``unit`` (USD), ``price_moved`` (fraction of the mark), ``probability_moved`` and
        ``deficit_moved`` (USD).

    Returns
    -------
    Table
        `asset`, `leverage`, `n_positions`; USD: `notional`, `equity`, every requirement's total,
        and ``<requirement>_call``, what holders would have to add to meet it one by one; the
        notional `under` and `over` the requirement, and `excess`, what is posted beyond it;
        `covered_99` and `covered_995`, the shares of the notional whose equity is enough for a
        deficit to be rarer than 1 % and 0.5 %; the unit in USD and the changes, those of price and
        probability weighted by notional. Rows without a position are left out.
    """
    notional, equity = columns["notional"], columns["equity"]
    bucket = leverage_bucket(notional, equity)
    n_buckets = len(LEVERAGE_LABELS)
    of_both = _places(n_buckets * asset + bucket, n_buckets * len(assets))
    of_asset, of_bucket = _places(asset, len(assets)), _places(bucket, n_buckets)
    rows: list[dict[str, object]] = []
    for a, name in [(-1, ALL), *enumerate(assets)]:
        for b, label in [(-1, ALL), *enumerate(LEVERAGE_LABELS)]:
            if a < 0:
                at = np.arange(len(asset)) if b < 0 else of_bucket[b]
            else:
                at = of_asset[a] if b < 0 else of_both[n_buckets * a + b]
            if not len(at):
                continue
            part = {key: values[at] for key, values in columns.items()}
            rows.append({"asset": name, "leverage": label, **_totals(part)})
    schema = pa.schema(
        [("asset", "string"), ("leverage", "string"), ("n_positions", "i8")]
        + [(name, "f8") for name in (rows[0] if rows else {}) if name not in _NOT_FLOAT]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _places(code: np.ndarray, n: int) -> list[np.ndarray]:
    """Where each of `n` codes stands, ascending: one sort instead of a pass for every code."""
    code = code.astype(np.min_scalar_type(n))  # short numbers are sorted in one pass
    order = np.argsort(code, kind="stable")
    return np.split(order, np.searchsorted(code[order], np.arange(1, n)))


_NOT_FLOAT = ("asset", "leverage", "n_positions")

REQUIREMENTS = (
    "required",
    "required_stressed",
    "liquidation",
    "liquidation_stressed",
    "required_99",
    "required_995",
    "buffer",
    "stressed_weight",
    "floor",
)


def _totals(part: Mapping[str, np.ndarray]) -> dict[str, float | int]:
    notional, equity = part["notional"], part["equity"]
    total = float(notional.sum())
    lacks = equity < part["required"]
    out: dict[str, float | int] = {
        "n_positions": len(notional),
        "notional": total,
        "equity": float(equity.sum()),
        "under": float(notional[lacks].sum()),
        "over": float(notional[~lacks].sum()),
        "excess": float(np.maximum(equity - part["required"], 0.0).sum()),
    }
    for name in REQUIREMENTS:
        out[name] = float(part[name].sum())
        out[f"{name}_call"] = float(np.maximum(part[name] - equity, 0.0).sum())
    for name in ("99", "995"):
        enough = equity >= part[f"required_{name}"]
        out[f"covered_{name}"] = float(notional[enough].sum()) / total
    out["unit"] = float(part["unit"].sum())
    for name in ("price_moved", "probability_moved"):
        out[name] = float(part[name] @ notional) / total
    out["deficit_moved"] = float(part["deficit_moved"].sum())
    return out


def jump_allowance(length: np.ndarray, weight: np.ndarray, swept: float, target: float) -> float:
    """Distance from trigger to bankruptcy that all but a share of the liquidations stay within.

    Triggers are taken to lie evenly over the log prices that the scenarios sweep. A jump of length
    ``l`` lands further than ``m`` beyond the triggers in its first ``l - m``.

    Parameters
    ----------
    length, weight : ndarray (jump,)
        Of the jumps, as positive log moves, and the probability of each one's scenario.
    swept : float
        Mean adverse log move of a scenario.
    target : float
        Share of the liquidations that may overshoot.

    Returns
    -------
    float
        Log distance `m`; zero where jumps are rare enough.

    Examples
    --------
    Every day falls by 4 %, and the last 2 % of it are one jump: half of the liquidations happen
    inside the jump, and a tenth of all land more than 1.6 % beyond their trigger.

    >>> import numpy as np
    >>> round(jump_allowance(np.array([0.02]), np.array([1.0]), 0.04, 0.1), 6)
    0.016
    """
    order = np.argsort(-length, kind="stable")
    length, weight = length[order], weight[order]
    allowed = target * swept
    # Above m, sum(w * (l - m)) is a line between two lengths.
    held, moment = np.cumsum(weight), np.cumsum(weight * length)
    below = np.append(length[1:], 0.0)
    reached = np.flatnonzero(moment - held * below >= allowed)
    if not len(reached) or allowed <= 0:
        return 0.0 if allowed > 0 else float(length.max(initial=0.0))
    k = reached[0]
    return float(max((moment[k] - allowed) / held[k], 0.0))
