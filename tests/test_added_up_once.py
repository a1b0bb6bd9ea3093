"""What a night keeps so that nobody decodes or adds up twice: the same to the bit."""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr

from risk.book import BOOK, MAPPED, read_book, write_book
from risk.capital import adequacy, cover, load_capital
from risk.cube import read_totals, save_totals, total
from risk.measures import expected_shortfall, measure_cube
from tests.books import book_of, random_position
from tests.test_capital import CONFIGS
from tests.test_measures_cube import CONFIDENCES, LEVELS, make_set


def test_the_mapped_book_is_the_book_of_the_file(tmp_path):
    rng = np.random.default_rng(3)
    book = book_of([random_position(rng) for _ in range(40)])
    # As a table comes from a file of several row groups.
    write_book(tmp_path, pa.concat_tables([book.slice(0, 15), book.slice(15)]))
    mapped, some = read_book(tmp_path), read_book(tmp_path, ["status", "trigger"])
    (tmp_path / MAPPED).unlink()
    assert (tmp_path / BOOK).exists()
    for table in (mapped, read_book(tmp_path)):
        assert table.schema == book.schema
        assert table.equals(book)
    assert some.equals(book.select(["status", "trigger"]))
    assert read_book(tmp_path, ["status", "trigger"]).equals(some)


def test_totals_that_were_kept_are_the_totals_of_the_cube(tmp_path):
    cube = xr.DataTree.from_dict({"one": make_set(500, 12, 1), "two": make_set(300, 12, 2)})
    kept = {}
    measure_cube(
        cube,
        confidences=CONFIDENCES,
        levels=LEVELS,
        keep=lambda name, variable, found: kept.setdefault((name, variable), found),
    )
    for (name, variable), found in kept.items():
        expected = cube[name].dataset[variable].values
        np.testing.assert_allclose(found, expected.sum(axis=1), rtol=1e-12, atol=1e-9)
    save_totals(tmp_path, {"one": kept["one", "pnl"]})
    read = read_totals(tmp_path, cube, ["one", "two"])
    np.testing.assert_array_equal(read["one"], kept["one", "pnl"])
    assert read["two"].identical(total(cube["two"].to_dataset(), "pnl"))
    assert set(read["one"].coords) == set(read["two"].coords)


def test_deficits_sorted_once_measure_as_each_level_alone():
    one = make_set(997, 9, 5)
    measures = measure_cube(
        xr.DataTree.from_dict({"one": one}), confidences=CONFIDENCES, levels=LEVELS
    )
    deficit = one["deficit"].groupby("asset").sum()
    for level in CONFIDENCES:
        alone = expected_shortfall(-deficit, level)
        found = measures["asset"].deficit_expected_shortfall.sel(confidence=level)
        for name in alone["asset"].values:
            expected = alone.sel(asset=name).item()
            assert found.sel(group=name).item() == pytest.approx(expected, rel=1e-14)


def test_the_cover_does_not_depend_on_the_order_of_the_rows():
    rng = np.random.default_rng(8)
    n = 300
    rows = {
        "scenario": rng.choice(["flood", "drought", "frost"], n).tolist(),
        "account": [f"a{k}" for k in rng.integers(0, 12, n)],
        "deficit_usd": np.round(np.maximum(rng.normal(0, 100, n), 0.0)).tolist(),
    }
    sums: dict[str, dict[str, float]] = {}
    for name, account, amount in zip(*rows.values(), strict=True):
        mine = sums.setdefault(name, {})
        mine[account] = mine.get(account, 0.0) + amount
    lines = adequacy(
        funds=pa.table({"venue": ["x"], "balance_usd": [1.0]}),
        settings=load_capital(CONFIGS, date(2026, 11, 20)),
        deficit_by_venue=xr.DataArray(
            [[1.0]],
            dims=("scenario", "venue"),
            coords={"label": ("scenario", ["flood"]), "venue": ["x"]},
        ),
        account_deficits=pa.table(rows),
        deficit_expected_shortfall=1.0,
        deficit_basis="a test",
    ).to_pylist()
    found = {row["line"]: row for row in lines}
    for n_accounts in (1, 2):
        covers = {name: cover(mine, n_accounts) for name, mine in sums.items()}
        line = found[f"cover_{n_accounts}"]
        assert line["value"] == max(covers.values())
        assert line["basis"] == f"Largest in {max(covers, key=covers.__getitem__)}"
