"""From a run's files to what the reports are made of: totals, summaries, checks and identity.

No finance happens here: it adds up, selects and puts into words.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xarray as xr

from risk.capital import adequacy, load_capital
from risk.config import Config, config_digest
from risk.coverage import reasons
from risk.cube import load_record, open_cube, open_tree, read_dataset
from risk.drivers import make_drivers
from risk.liquidation import load_ladders, walk
from risk.margin.venues import VenueRules
from risk.reports import (
    InputFile,
    MarginSummary,
    QualityCheck,
    ReportInputs,
    RunIdentity,
    load_limits,
    render_capital,
    render_officer,
)
from risk.reports.choose import SET_WORDS, headline, words
from risk.reports.headlines import limit_states
from risk.reports.view import Facts
from risk.scenarios.historical import Ratios, gap_rule
from risk.schema import USD_EQUIVALENTS
from risk.store import code_digest

#: Edges of the distance-to-liquidation histogram, fractions of the mark.
DISTANCE_EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, math.inf)

#: How the windows of a historical set count.
METHOD_WORDS = {
    "plain": "equally weighted",
    "age_weighted": "recent ones weighing more",
    "volatility_scaled": "scaled to today's volatility",
    "filtered": "standardised by GARCH and retold in today's volatility",
}

#: Laws of a simulated day, and where its normals come from.
MODEL_WORDS = {"student_t": "Student-t", "t_copula": "t-copula"}
SAMPLING_WORDS = {"antithetic": "mirrored pairs", "sobol": "scrambled Sobol points"}

#: Proxied assets named one by one.
_N_PROXIED = 8

#: Accounts listed in the report, by worst stress.
_N_ACCOUNTS = 25


def insurance_funds(venues: Mapping[str, VenueRules], history: xr.Dataset) -> pa.Table:
    """Balance of every venue's insurance fund, in its currency and in USD (null: no price)."""
    rows = []
    for name, rules in sorted(venues.items()):
        fund = rules.insurance_fund
        if fund.currency in USD_EQUIVALENTS:
            price = 1.0
        elif fund.currency in history.asset.values:
            price = float(history["close"].sel(asset=fund.currency).values[-1])
        else:
            price = math.nan
        usd = fund.balance * price
        rows.append(
            {
                "venue": name,
                "currency": fund.currency,
                "balance": fund.balance,
                "balance_usd": usd if math.isfinite(usd) else None,
            }
        )
    schema = pa.schema(
        [("venue", "string"), ("currency", "string"), ("balance", "f8"), ("balance_usd", "f8")]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def market_notes(
    history: xr.Dataset,
    assets: list[str],
    calibration: xr.Dataset,
    records: Mapping[str, xr.Dataset],
) -> dict[str, Any]:
    """What a reader must know of the market data, as JSON values."""
    mine = history.sel(asset=assets)
    notes: dict[str, Any] = {
        "assets": list(assets),
        "is_synthetic": bool(history.attrs.get("is_synthetic", False)),
        "source": str(history.attrs.get("source", "")),
        "price_kinds": sorted({str(kind) for kind in mine.price_kind.values}),
        "first_day": str(mine.day.values[0].astype("M8[D]")),
        "n_days": int(mine.sizes["day"]),
        "n_holes": int(mine.n_holes.sum()),
        "n_incomplete": int(mine.n_incomplete.sum()),
        "n_bad_prints": int(mine.n_bad_prints.sum()),
        "degrees_of_freedom": float(calibration.degrees_of_freedom),
        "pit_statistic": float(calibration.pit_statistic_pooled),
        "short_history": [str(a) for a in assets if bool(calibration.proxied.sel(asset=a))],
        "proxied": [],
        "proxied_share": {},
        "n_windows": 0,
        "n_stress_assets_ignored": 0,
    }
    if "historical" in records:
        record = records["historical"]
        share = {str(a): float(s) for a, s in zip(assets, record.proxied_share.values, strict=True)}
        notes["proxied_share"] = {asset: part for asset, part in share.items() if part > 0}
        notes["n_windows"] = int(record.attrs["n_windows"])
    if "stress" in records:
        notes["n_stress_assets_ignored"] = len(records["stress"].attrs["ignored"])
    notes["proxied"] = sorted({*notes["proxied_share"], *notes["short_history"]})
    return notes


def report_inputs(
    folder: Path, config: Config, *, as_of: dt.date, run_id: str, inputs: Mapping[str, str]
) -> ReportInputs:
    """Gather everything the reports print from the files of a run."""
    book = pq.read_table(folder / "book.parquet")
    quarantine = pq.read_table(folder / "quarantine.parquet")
    funds = pq.read_table(folder / "funds.parquet")
    market, snapshot = _json(folder / "market.json"), _json(folder / "snapshot.json")
    measures = open_tree(folder / "measures.zarr").load()
    cube = open_cube(folder)
    stresses, losses = _stresses(folder, cube, funds)
    capital = load_capital(config.capital, as_of) if config.capital else None
    base = {
        "as_of": as_of,
        "measures": measures,
        "totals": {name: _total_pnl(cube, name) for name in config.scenarios.names},
        "stresses": stresses,
        "coverage": pq.read_table(folder / "coverage.parquet"),
        "coverage_floor": config.measures.coverage_floor,
        "reasons": reasons(book, quarantine),
        "margin": _margin_summary(book),
        "curves": _stored(folder / "curves.zarr"),
        "accounts": _worst_accounts(book, losses, stresses),
        "funds": funds,
        "entity": capital.entity if capital else "the reporting entity",
        "limits": load_limits(config.limits) if config.limits else (),
        "parameters": _parameters(config, market),
        "quality": _quality(book, market, snapshot),
        "gap_sensitivity": _stored(folder / "gap_sensitivity.zarr"),
        "run": _identity(config, run_id, inputs, market, snapshot, measures),
    }
    draft = ReportInputs(contributors=_contributors(measures, "", 0.0), **base)
    top = headline(draft)
    contributors = _contributors(measures, top.scenario_set, top.expected_shortfall)
    lines = None
    if capital is not None:
        extreme = measures["total"].deficit_expected_shortfall_999.sel(
            scenario_set=top.scenario_set
        )
        lines = adequacy(
            funds=funds,
            settings=capital,
            deficit_by_venue=stresses.deficit_by_venue,
            account_deficits=losses,
            deficit_expected_shortfall=float(extreme.values.item()),
            deficit_basis=(
                f"{words(top.scenario_set, SET_WORDS)}, 99.9 %, coherent fractional tail mean"
            ),
        )
    return ReportInputs(contributors=contributors, adequacy=lines, **base)


def write_reports(folder: Path, facts: pa.Table, inputs: ReportInputs) -> None:
    """Print the officer's report and the capital summary into a folder."""
    (folder / "report.html").write_text(render_officer(facts, inputs), encoding="utf-8")
    page, document = render_capital(facts, inputs)
    (folder / "capital.html").write_text(page, encoding="utf-8")
    (folder / "capital.json").write_text(document, encoding="utf-8")


def breaches(facts: pa.Table, inputs: ReportInputs) -> tuple[str, ...]:
    """One sentence per breached limit, and one if coverage is below its floor."""
    view = Facts(facts)
    found = [
        f"{state.limit.name}: {state.value:,.2f} against {state.limit.breach:,.2f}"
        for state in limit_states(view, inputs)
        if state.state == "breach" and state.value is not None
    ]
    for row in inputs.coverage.to_pylist():
        for column, what in (("share", "positions"), ("notional_share", "notional")):
            share = row[column]
            if row["status"] == "priced" and share is not None and share < inputs.coverage_floor:
                found.append(
                    f"coverage: {share:.2%} of the {what} priced, floor {inputs.coverage_floor:.2%}"
                )
    return tuple(found)


def _stored(path: Path) -> xr.Dataset | None:
    if not path.exists():
        return None
    return read_dataset(path)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _total_pnl(cube: xr.DataTree, name: str) -> xr.DataArray:
    return cube[name].pnl.load().sum("cell").assign_attrs(units="USD")


def _stresses(folder: Path, cube: xr.DataTree, funds: pa.Table) -> tuple[xr.Dataset, pa.Table]:
    """Totals per stress with the deficit by venue; and the accounts' losses, by stress label."""
    venues = np.asarray(funds["venue"].to_pylist(), object)
    schema = pa.schema(
        [
            ("scenario", "string"), ("account", "string"), ("venue", "string"),
            ("pnl_usd", "f8"), ("deficit_usd", "f8"), ("liquidations", "i8"),
        ]
    )  # fmt: skip
    if "stress" not in cube.children:
        empty = {
            name: ("scenario", np.empty(0))
            for name in (
                "pnl", "deficit", "venue_gain", "market_cost", "liquidations", "stops",
                "liquidated_notional",
            )
        }  # fmt: skip
        none = xr.Dataset(
            empty | {"deficit_by_venue": (("scenario", "venue"), np.empty((0, len(venues))))},
            coords={
                "label": ("scenario", np.empty(0, object)),
                "source": ("scenario", np.empty(0, object)),
                "venue": venues,
            },
        )
        return none, schema.empty_table()
    totals = cube["stress"].to_dataset().load().sum("cell")
    losses = pq.read_table(folder / "accounts.parquet")
    index = losses["scenario"].to_numpy()
    codes = {venue: i for i, venue in enumerate(venues)}
    where = np.array([codes[venue] for venue in losses["venue"].to_pylist()], "i8")
    by_venue = np.zeros((totals.sizes["scenario"], len(venues)))
    np.add.at(by_venue, (index, where), losses["deficit_usd"].to_numpy())
    totals = totals.assign(deficit_by_venue=(("scenario", "venue"), by_venue)).assign_coords(
        venue=venues
    )
    labels = pa.array([str(label) for label in totals.label.values])
    named = losses.set_column(0, "scenario", labels.take(losses["scenario"].combine_chunks()))
    return totals, named.select(schema.names).cast(schema)


def _worst_accounts(book: pa.Table, losses: pa.Table, stresses: xr.Dataset) -> pa.Table:
    """Each account under its worst stress: largest loss with its deficit first."""
    if not losses.num_rows:
        return pa.table(
            {
                "account": pa.array([], "string"), "scenario": pa.array([], "string"),
                "pnl_usd": pa.array([], "f8"), "deficit_usd": pa.array([], "f8"),
                "notional_usd": pa.array([], "f8"),
            }
        )  # fmt: skip
    per_account = losses.group_by(["account", "scenario"], use_threads=False).aggregate(
        [("pnl_usd", "sum"), ("deficit_usd", "sum")]
    )
    cost = pc.subtract(per_account["deficit_usd_sum"], per_account["pnl_usd_sum"])
    ordered = per_account.append_column("cost", cost).sort_by(
        [("cost", "descending"), ("account", "ascending"), ("scenario", "ascending")]
    )
    priced = book.filter(pc.equal(book["status"], "ok"))
    held = (
        pa.table({"account": priced["account"].cast(pa.string()), "n": priced["notional_usd"]})
        .group_by("account", use_threads=False)
        .aggregate([("n", "sum")])
    )
    notional = dict(zip(held["account"].to_pylist(), held["n_sum"].to_pylist(), strict=True))
    rows: dict[str, dict[str, Any]] = {}
    for batch in ordered.to_batches(max_chunksize=1000):
        for row in batch.to_pylist():
            rows.setdefault(
                row["account"],
                {
                    "account": row["account"],
                    "scenario": row["scenario"],
                    "pnl_usd": row["pnl_usd_sum"],
                    "deficit_usd": row["deficit_usd_sum"],
                    "notional_usd": notional.get(row["account"], 0.0),
                },
            )
        if len(rows) >= _N_ACCOUNTS:
            break
    return pa.Table.from_pylist(list(rows.values())[:_N_ACCOUNTS])


def _margin_summary(book: pa.Table) -> MarginSummary:
    priced = book.filter(pc.equal(book["status"], "ok"))
    notional = priced["notional_usd"].to_numpy(zero_copy_only=False)
    long = priced["direction"].to_numpy(zero_copy_only=False) > 0
    distance = priced["distance_to_liquidation"].to_numpy(zero_copy_only=False)
    distance = np.where(np.isnan(distance), math.inf, distance)  # cannot be liquidated
    edges = np.array(DISTANCE_EDGES)
    place = np.clip(np.searchsorted(edges, distance, side="right") - 1, 0, len(edges) - 2)
    sides = {"long": long, "short": ~long}
    shape = len(edges) - 1
    by_side = [np.bincount(place[m], notional[m], shape) for m in sides.values()]
    counts = [np.bincount(place[m], minlength=shape) for m in sides.values()]
    return MarginSummary(
        n_priced=priced.num_rows,
        n_margin_calls=int(pc.sum(priced["margin_call"]).as_py() or 0),
        n_liquidatable=int(pc.sum(pc.equal(book["status"], "liquidatable")).as_py() or 0),
        n_accounts=len(pc.unique(priced["account"].cast(pa.string()))),
        long_notional_usd=float(notional[long].sum()),
        short_notional_usd=float(notional[~long].sum()),
        equity_usd=float(np.nansum(priced["equity_usd"].to_numpy(zero_copy_only=False))),
        distance=xr.Dataset(
            {
                "notional_usd": (("bin", "side"), np.stack(by_side, axis=1), {"units": "USD"}),
                "n_positions": (("bin", "side"), np.stack(counts, axis=1), {"units": "1"}),
                "lower": ("bin", edges[:-1]),
                "upper": ("bin", edges[1:]),
            },
            coords={"side": np.array(list(sides), object)},
        ),
    )


def _contributors(measures: xr.DataTree, scenario_set: str, confidence: float) -> pa.Table:
    """Parts of the headline expected shortfall by every level; empty without a headline."""
    rows = []
    for level, node in measures.children.items():
        if level == "total" or not scenario_set:
            continue
        part = node.dataset.expected_shortfall_contribution.sel(
            scenario_set=scenario_set, confidence=confidence
        )
        rows += [
            {"label": level, "group": str(group), "expected_shortfall_contribution": float(value)}
            for group, value in zip(part.group.values, part.values, strict=True)
        ]
    schema = pa.schema(
        [("label", "string"), ("group", "string"), ("expected_shortfall_contribution", "f8")]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _parameters(config: Config, market: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, float] = {
        "horizon_days": config.horizon_days,
        "n_assets": len(market["assets"]),
        "n_days": market["n_days"],
        "degrees_of_freedom": market["degrees_of_freedom"],
    }
    if config.scenarios.historical:
        values["gap"] = config.scenarios.historical.gap
        values["n_windows"] = market["n_windows"]
    if config.scenarios.monte_carlo:
        values["n_paths"] = config.scenarios.monte_carlo.paths
        values["n_steps"] = config.scenarios.monte_carlo.steps
    return values


def _quality(
    book: pa.Table, market: Mapping[str, Any], snapshot: Mapping[str, Any]
) -> tuple[QualityCheck, ...]:
    """Checks of the inputs, each with its number."""

    def judge(name: str, count: int, good: str, bad: str) -> QualityCheck:
        return QualityCheck(name, "warn" if count else "pass", bad if count else good, count)

    kinds = market["price_kinds"]
    stale = int(pc.sum(book["is_stale"]).as_py() or 0)
    return (
        QualityCheck(
            "Price kind",
            "pass" if kinds == ["mark"] else "warn",
            "the history is made of mark prices"
            if kinds == ["mark"]
            else f"the history is made of {', '.join(kinds)} prices; positions are closed at marks",
        ),
        judge(
            "Bad prints",
            market["n_bad_prints"],
            "no wick beyond the filter's bound",
            "wicks clipped to the filter's bound",
        ),
        judge(
            "Holes in the history",
            market["n_holes"],
            "no day is missing between an asset's first and last",
            "days missing between an asset's first and last; windows across them are proxied",
        ),
        judge(
            "Incomplete days",
            market["n_incomplete"],
            "every day has all its bars",
            "days lack some of their finer bars",
        ),
        judge(
            "Proxied assets",
            len(market["proxied"]),
            "every asset has its own history in every window",
            "assets moved by beta and a resampled residual where their own history is missing",
        ),
        *_proxied(book, market),
        judge(
            "Stale marks",
            stale,
            "every mark was taken at the close",
            "positions whose mark is older than the staleness limit",
        ),
        judge(
            "Stress assets not in the universe",
            market["n_stress_assets_ignored"],
            "every shocked asset has a price",
            "shocks on assets without a price that day, ignored",
        ),
    )


def _proxied(book: pa.Table, market: Mapping[str, Any]) -> list[QualityCheck]:
    """The proxied assets that matter most, each with its share of the notional."""
    priced = book.filter(pc.equal(book["status"], "ok"))
    held = (
        pa.table({"asset": priced["asset"].cast(pa.string()), "usd": priced["notional_usd"]})
        .group_by("asset", use_threads=False)
        .aggregate([("usd", "sum")])
    )
    notional = dict(zip(held["asset"].to_pylist(), held["usd_sum"].to_pylist(), strict=True))
    total = sum(notional.values())
    share = {name: notional.get(name, 0.0) / total for name in market["proxied"]} if total else {}
    largest = sorted(share, key=lambda name: (-share[name], name))[:_N_PROXIED]
    windows = market["proxied_share"]
    return [
        QualityCheck(
            f"{name}, proxied: share of the notional",
            "warn" if share[name] >= 0.01 else "pass",
            "in every window"
            if windows.get(name, 0.0) >= 1
            else "in the windows before it had prices, or across its holes"
            if name in windows
            else "its Monte Carlo parameters only: too young for its own",
            round(100 * share[name], 2),
            "%",
        )
        for name in largest
    ]


def gap_sensitivity(folder: Path, config: Config) -> xr.Dataset | None:
    """Deficits when none, the rule's share, or all of a move lands as one jump."""
    wanted = config.scenarios.historical
    if wanted is None:
        return None
    ladders = load_ladders(folder / "ladders")
    record = load_record(folder / "scenarios" / "historical.zarr")
    shares = sorted({0.0, wanted.gap, 1.0})
    worst, mean = [], []
    for share in shares:
        moves = Ratios(record.low.values, record.high.values, record["last"].values)
        drivers = make_drivers(
            *moves,
            assets=list(record.asset.values),
            label=record.label.values,
            source=record.source.values,
            weight=record.weight.values,
            gaps=gap_rule(moves, share),
        )
        deficit = walk(ladders, drivers).deficit.sum("cell").values
        worst.append(deficit.max())
        mean.append(float(deficit @ record.weight.values))
    return xr.Dataset(
        {
            "deficit_worst": (
                "gap",
                worst,
                {"units": "USD", "long_name": "Historical, worst deficit"},
            ),
            "deficit_mean": (
                "gap",
                mean,
                {"units": "USD", "long_name": "Historical, mean deficit"},
            ),
        },
        coords={"gap": shares},
    )


def _identity(
    config: Config,
    run_id: str,
    inputs: Mapping[str, str],
    market: Mapping[str, Any],
    snapshot: Mapping[str, Any],
    measures: xr.DataTree,
) -> RunIdentity:
    sets = {}
    if config.scenarios.monte_carlo:
        drawn = config.scenarios.monte_carlo
        jumps = "common and own jumps" if drawn.jumps else "no jumps"
        more = [SAMPLING_WORDS[drawn.sampling]] if drawn.sampling in SAMPLING_WORDS else []
        if drawn.jump_tilt > 1:
            more.append(f"common jumps {drawn.jump_tilt:g} times as often in half of the paths")
        sets["monte_carlo"] = ", ".join(
            [
                f"{MODEL_WORDS[drawn.model]} paths with {drawn.volatility.upper()} volatilities",
                f"bridge extremes and {jumps}",
                *more,
                f"seed {config.seed}",
                f"calibrated from {market['first_day']}",
            ]
        )
    if config.scenarios.historical:
        windows = "overlapping windows of daily lows, highs and closes"
        for name, method in config.scenarios.historical.sets.items():
            sets[name] = f"{windows}, {METHOD_WORDS[method]}"
    if config.scenarios.stress:
        sets["stress"] = "named stresses, each with its own gap rule"
    total = measures["total"].dataset
    estimators = {
        str(name): str(variable.attrs[key])
        for name, variable in total.data_vars.items()
        # Both ends of an interval carry its method; the lower one speaks for it.
        for key in ("estimator", "interval")
        if key in variable.attrs and not str(name).endswith("_high")
    }
    tiers = [note for note in snapshot["notes"] if note.startswith("tiers")]
    others = [note for note in snapshot["notes"] if not note.startswith("tiers")]
    if market["source"]:
        others.append(f"history: {market['source']}")
    return RunIdentity(
        run_id=run_id,
        config_digest=config_digest(config),
        code_version=f"{metadata.version('bulkhead')}, sources {code_digest()[:16]}",
        seed=config.seed,
        scenario_sets=sets,
        files=tuple(InputFile(name, digest) for name, digest in inputs.items()),
        price_kind=", ".join(market["price_kinds"]),
        tier_sources=tuple(note.removeprefix("tiers: ") for note in tiers),
        estimators=estimators,
        is_synthetic=bool(snapshot["is_synthetic"] or market["is_synthetic"]),
        notes=tuple(others),
    )
