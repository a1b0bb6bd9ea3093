"""Default resources against what they may have to pay: the lines of the capital summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import xarray as xr
from numpy.typing import ArrayLike

from risk.capital.checks import check_amounts, check_count
from risk.capital.settings import CapitalSettings

#: One line of the capital summary; `is_verified` is null where nothing needed checking.
ADEQUACY = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),
        pa.field("line", pa.string(), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("unit", pa.string(), nullable=False),
        pa.field("basis", pa.string(), nullable=False),
        pa.field("is_verified", pa.bool_()),
    ]
)


def cover(deficits_by_account: Mapping[str, float] | ArrayLike, n: int) -> float:
    """Sum of the `n` largest account deficits: what the default of those accounts would cost.

    Parameters
    ----------
    deficits_by_account : mapping of account to amount, or array_like (account)
        Deficits under one stress, not below zero.
    n : int
        How many accounts default together, 1 for cover-1, 2 for cover-2.

    Raises
    ------
    ValueError
        If `n` is no whole number from one on, or a deficit is negative or not finite.

    Examples
    --------
    >>> cover({"a": 5.0, "b": 1.0, "c": 3.0}, 2)
    8.0
    """
    n = check_count("n", n, least=1)
    given: Any = deficits_by_account
    if isinstance(given, Mapping):
        given = list(given.values())
    deficits = np.asarray(given, dtype=float).ravel()
    check_amounts(deficits_by_account=deficits)
    return math.fsum(np.sort(deficits)[::-1][:n])


def adequacy(
    *,
    funds: pa.Table,
    settings: CapitalSettings,
    deficit_by_venue: xr.DataArray,
    account_deficits: pa.Table,
    deficit_expected_shortfall: float | None,
    deficit_basis: str,
    sampled_deficits: pa.Table | None = None,
) -> pa.Table:
    """Resources, requirement, surplus and cover, one row per line of the capital summary.

    Parameters
    ----------
    funds : Table (venue, balance_usd)
        Insurance funds; each pays only for its own venue. A null balance counts as nothing.
    settings : CapitalSettings
        Dated values; `own_funds` is in USD.
    deficit_by_venue : DataArray (scenario, venue)
        Deficit in USD under each stress, coordinate `label` on scenario.
    account_deficits : Table (scenario, account, deficit_usd)
        Deficits by stress and account, every stress named by its label.
    deficit_expected_shortfall : float or None
        Of the deficit at 99.9 %, USD; none where the sample cannot give it.
    deficit_basis : str
        Scenario set, confidence and estimator of that number, in words.
    sampled_deficits : Table (scenario, account, deficit_usd), optional
        Deficits by account in the worst sampled scenarios, every scenario named.

    Returns
    -------
    Table
        Schema ``ADEQUACY``; a value that is not available is null.
    """
    labels = [str(label) for label in deficit_by_venue["label"].values]
    by_stress = deficit_by_venue.transpose("scenario", "venue").values
    venues = [str(venue) for venue in deficit_by_venue["venue"].values]
    balances: dict[str, float] = {}
    for venue, balance in zip(
        funds["venue"].to_pylist(), funds["balance_usd"].to_pylist(), strict=True
    ):
        balances[venue] = balances.get(venue, 0.0) + (balance or 0.0)
    fund = math.fsum(balances.values())
    held = np.array([balances.get(venue, 0.0) for venue in venues])
    own = settings["own_funds"]

    worst, worst_label = _worst(by_stress.sum(axis=1), labels)
    uncovered, uncovered_label = _worst(np.maximum(by_stress - held, 0.0).sum(axis=1), labels)
    covers = _worst_covers(account_deficits, (1, 2))
    known = [amount for amount in (worst, deficit_expected_shortfall) if amount is not None]
    requirement = max(known) if known else None
    resources = fund + own.value

    own_basis = f"{own.paragraph}; {own.source}; in force from {own.valid_from}"
    fund_basis = "Balances of the venue rules; each fund pays only for its own venue"
    if funds["balance_usd"].null_count:
        fund_basis += "; a fund in a coin without a price counts as nothing"
    rows: list[tuple[str, str, float | None, str, str, bool | None]] = [
        ("insurance_funds", "Insurance funds, all venues", fund, "USD", fund_basis, None),
        ("own_funds", "Own funds", own.value, "USD", own_basis, own.verified),
        ("resources", "Total resources", resources, "USD", "Funds plus own funds", None),
        ("worst_stress_deficit", "Worst stress deficit", worst, "USD", worst_label, None),
        (
            "deficit_expected_shortfall",
            "Expected shortfall of the deficit",
            deficit_expected_shortfall,
            "USD",
            deficit_basis,
            None,
        ),
        ("requirement", "Requirement", requirement, "USD", "Larger of the two above", None),
        (
            "surplus",
            "Surplus of resources",
            None if requirement is None else resources - requirement,
            "USD",
            "Resources less requirement",
            None,
        ),
        (
            "ratio",
            "Resources over requirement",
            _ratio(resources, requirement),
            "x",
            "Resources divided by requirement",
            None,
        ),
        (
            "worst_uncovered_deficit",
            "Worst deficit beyond the funds",
            uncovered,
            "USD",
            f"Venue by venue, after its own fund: {uncovered_label}",
            None,
        ),
        (
            "own_funds_after",
            "Own funds left after it",
            None if uncovered is None else own.value - uncovered,
            "USD",
            "Own funds less the line above",
            own.verified,
        ),
    ]
    for n, (amount, label) in covers.items():
        who = "largest account" if n == 1 else "two largest accounts"
        rows.append((f"cover_{n}", f"Cover-{n}: deficit of the {who}", amount, "USD", label, None))
        rows.append(
            (
                f"cover_{n}_ratio",
                f"Resources over cover-{n}",
                _ratio(resources, amount),
                "x",
                "Resources divided by the line above",
                None,
            )
        )
    sampled = {} if sampled_deficits is None else _worst_covers(sampled_deficits, (1, 2))
    for n, (amount, label) in sampled.items():
        title = f"Cover-{n} over the worst sampled scenarios"
        rows.append((f"cover_{n}_sampled", title, amount, "USD", label, None))
    columns = zip(*[(f"{10 * i:04d}", *row) for i, row in enumerate(rows, 1)], strict=True)
    return pa.table([list(column) for column in columns], schema=ADEQUACY)


def _worst(amounts: np.ndarray, labels: list[str]) -> tuple[float | None, str]:
    if not labels:
        return None, "no stress in this run"
    index = int(np.argmax(amounts))
    return float(amounts[index]), labels[index] if amounts[index] > 0.0 else "zero in every stress"


def _worst_covers(table: pa.Table, counts: Sequence[int]) -> dict[int, tuple[float | None, str]]:
    """Largest cover over the scenarios, and where, of each number of accounts."""
    if not table.num_rows:
        return dict.fromkeys(counts, (None, "no account deficit in this run"))
    names, place = _codes(table["scenario"])
    accounts, who = _codes(table["account"])
    deficits = table["deficit_usd"].to_numpy()
    check_amounts(account_deficits=deficits)
    if (np.diff(place) < 0).any():
        order = np.argsort(place, kind="stable")
        place, who, deficits = place[order], who[order], deficits[order]
    edges = np.searchsorted(place, np.arange(len(names) + 1))
    covers = np.zeros((len(counts), len(names)))
    most = max(counts)
    for at, (begin, end) in enumerate(pairwise(edges)):
        # An account may hold positions at several venues: its deficits are one default.
        summed = np.bincount(who[begin:end], deficits[begin:end], len(accounts)).astype("f8")
        largest = np.sort(summed[summed > 0.0])[-most:]
        covers[:, at] = [cover(largest, n) for n in counts]
    worst = covers.argmax(axis=1)
    return {
        n: (float(covers[row, at]), f"Largest in {names[at].as_py()}")
        for row, (n, at) in enumerate(zip(counts, worst, strict=True))
    }


def _codes(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """Distinct values, and the place of each row's among them."""
    whole = column.combine_chunks()
    if not pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    return whole.dictionary, whole.indices.to_numpy(zero_copy_only=False)


def _ratio(resources: float, amount: float | None) -> float | None:
    return resources / amount if amount else None
