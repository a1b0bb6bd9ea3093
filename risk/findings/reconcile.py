"""Do the totals add up: the files against the statuses, the statuses against the cells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xarray as xr

from risk.reports import Reconciled

_STATUSES = ("priced", "unpriced", "liquidatable", "quarantined", "excluded")


def reconcile(
    book: pa.Table,
    coverage: pa.Table,
    cube: xr.DataTree,
    measures: xr.DataTree,
    snapshot: Mapping[str, Any],
) -> tuple[Reconciled, ...]:
    """Totals of the run beside what they must be equal to.

    Parameters
    ----------
    book : Table (position,)
        `risk.schema.BOOK`.
    coverage : Table
        `risk.schema.COVERAGE`.
    cube : DataTree
        Its cells carry the roll-up labels.
    measures : DataTree
        With `pnl_mean` by level and group.
    snapshot : Mapping
        ``snapshot.json`` of the run; ``recount`` is null for a what-if book, which no file holds.

    Returns
    -------
    tuple of Reconciled
    """
    rows = {row["status"]: row for row in coverage.to_pylist()}
    n_out = sum(rows[name]["n_positions"] for name in _STATUSES)
    usd_out = math.fsum(rows[name]["notional_usd"] or 0.0 for name in _STATUSES)
    found = []
    counted = snapshot.get("recount")
    if counted is not None:
        found += [
            Reconciled(
                "Position rows", "in the files", counted["n_rows"], "by status", n_out, "1"
            ),
            Reconciled(
                "Notional of the valid rows", "valued from the files", counted["notional_usd"],
                "by status", usd_out, "USD",
            ),
        ]  # fmt: skip
    found.append(
        Reconciled(
            "Notional priced", "by status", rows["priced"]["notional_usd"],
            "over the cells of the cube", _in_cells(book, cube), "USD",
        )
    )  # fmt: skip
    total = measures["total"].dataset
    for level, node in measures.children.items():
        if level == "total" or "pnl_mean" not in node.dataset or not node.dataset.sizes["group"]:
            continue
        name = str(total["scenario_set"].values[0])
        whole, parts = (
            math.fsum(one["pnl_mean"].sel(scenario_set=name).values)
            for one in (total, node.dataset)
        )
        scale = float(np.abs(node.dataset["pnl_mean"].sel(scenario_set=name).values).sum())
        found.append(
            Reconciled(
                f"Mean P&L by {level}", "whole book", whole, "sum of its groups", parts, "USD",
                scale,
            )
        )  # fmt: skip
    return tuple(found)


def _in_cells(book: pa.Table, cube: xr.DataTree) -> float:
    """Notional of the priced positions whose labels are those of a cell."""
    cells = next(iter(cube.children.values())).dataset
    labels = [name for name in book.column_names if name in cells.coords]
    priced = book.select([*labels, "notional_usd"]).filter(pc.equal(book["status"], "ok"))
    listed = pa.table(
        {name: pa.array(cells[name].values.astype(str).tolist(), pa.string()) for name in labels}
    )
    mine = pa.table(
        {name: priced[name].cast(pa.string()) for name in labels} | {"usd": priced["notional_usd"]}
    )
    summed = mine.group_by(labels, use_threads=False).aggregate([("usd", "sum")])
    kept = summed.join(listed, labels, join_type="left semi")
    return math.fsum(kept["usd_sum"].to_pylist())
