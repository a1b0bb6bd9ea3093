"""The same account pools for the twin and for the kernel, and joint paths for both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from risk.drivers import JointPaths
from risk.liquidation.cross.kernel import live
from risk.liquidation.cross.reach import find_near, find_slopes
from risk.margin.excess import new_state, pack
from risk.margin.pools import Pools
from tests.books import random_position
from tests.cross_twin import Holding, Pool

ASSETS = ("ADA", "BTC", "ETH")
MARK = 100.0


def random_pool(rng, n=None, *, extra=True, stops=True):
    """Up to six positions in three assets, and other collateral."""
    positions = {}
    to_holder = bool(rng.integers(2))
    for i in range(n or int(rng.integers(1, 7))):
        position = random_position(rng, mark=MARK)
        changes = {"to_holder": to_holder} | ({} if stops else {"stop": None})
        positions[f"p{i}"] = (str(rng.choice(ASSETS)), replace(position, **changes))
    holdings, cash = [], 0.0
    if extra and rng.random() < 0.5:
        usd = sum(p.value(MARK) * (MARK if p.inverse else 1) for _, p in positions.values())
        holdings.append(
            Holding(str(rng.choice(ASSETS)), usd * rng.uniform(0, 0.1) / MARK, rng.uniform(0, 0.3))
        )
        cash = float(usd * rng.uniform(-0.001, 0.05))
    return Pool(positions, holdings, cash, to_holder, dict.fromkeys(ASSETS, MARK))


def pools_of(twins, names=None):
    """The kernel's arrays of some twin pools; one tier table per position."""
    legs, start, tables = [], [0], []
    for twin in twins:
        mine = []
        total = sum(_usd_notional(p) for _, p in twin.positions.values())
        for at, (asset, p) in enumerate(twin.positions.values()):
            usd = p.mark if p.inverse else 1.0
            equity = p.equity(p.mark) * usd
            exposure = (equity if p.inverse else 0.0) + p.direction * p.value(p.mark) * usd
            need = max(rate * p.value(p.entry) - amount for _, rate, amount in p.tiers)
            fee = p.fee_in_trigger * p.bankruptcy_value() if p.fee_at_bankruptcy else 0.0
            stop = np.inf if p.stop is None else -p.direction * p.stop / p.mark
            mine.append(
                dict(
                    row=at, asset=ASSETS.index(asset), driver=ASSETS.index(asset),
                    side=int(p.direction < 0),
                    inverse=p.inverse, alpha=equity - exposure, beta=exposure, counted=1.0,
                    notional=_usd_notional(p), unit=usd, table=len(tables),
                    is_entry_basis=p.entry_basis,
                    fixed=(fee + (need if p.entry_basis else 0.0)) * usd,
                    test_fee=0.0 if p.fee_at_bankruptcy else p.fee_in_trigger,
                    closing_fee=p.closing_fee, fee=p.liquidation_fee, stop=stop,
                    share=_usd_notional(p) / total,
                )
            )  # fmt: skip
            tables.append(p.tiers)
        for one in twin.holdings:
            value = one.amount * MARK
            mine.append(
                dict(
                    row=-1, asset=ASSETS.index(one.asset), driver=ASSETS.index(one.asset), side=0,
                    inverse=True, alpha=0.0,
                    beta=value, counted=1 - one.haircut, notional=0.0, unit=1.0, table=0,
                    is_entry_basis=False, fixed=0.0, test_fee=0.0, closing_fee=0.0, fee=0.0,
                    stop=np.inf, share=0.0,
                )
            )  # fmt: skip
        mine.sort(key=lambda leg: leg["asset"])
        legs += mine
        start.append(len(legs))
    deepest = max(len(t) for t in tables)
    padded = np.array([[*t, *([t[-1]] * (deepest - len(t)))] for t in tables], float)
    kinds = {
        "row": "i8",
        "asset": "i4",
        "driver": "i4",
        "side": "i1",
        "inverse": bool,
        "table": "i8",
    }
    kinds["is_entry_basis"] = bool
    columns = {
        name: np.array([leg[name] for leg in legs], kinds.get(name, "f8")) for name in legs[0]
    }
    return Pools(
        start=np.array(start, "i8"),
        cash=np.array([twin.cash for twin in twins], "f8"),
        is_strict=np.zeros(len(twins), bool),
        to_holder=np.array([twin.to_holder for twin in twins], bool),
        apart=np.zeros(len(twins), bool),
        **columns,
        n_tiers=np.array([len(t) for t in tables], "i8"),
        floor=np.ascontiguousarray(padded[:, :, 0]),
        rate=np.ascontiguousarray(padded[:, :, 1]),
        amount=np.ascontiguousarray(padded[:, :, 2]),
    )


def _usd_notional(p):
    return p.value(p.mark) * (p.mark if p.inverse else 1.0)


def random_frames(rng, n_frames, *, gaps=True, jumps=True, spread=0.08):
    """One path as the twin takes it."""
    here, frames = dict.fromkeys(ASSETS, 1.0), []
    for _ in range(n_frames):
        last = {a: x * float(np.exp(rng.normal(0, spread))) for a, x in here.items()}
        low = {
            a: min(here[a], last[a]) * float(np.exp(-abs(rng.normal(0, spread)))) for a in ASSETS
        }
        high = {
            a: max(here[a], last[a]) * float(np.exp(abs(rng.normal(0, spread)))) for a in ASSETS
        }
        frame = {"low": low, "high": high, "last": last, "falls": [], "rises": [], "jumps": []}
        if gaps and n_frames == 1:
            share = {a: float(rng.choice([0.0, 0.3, 1.0])) for a in ASSETS}
            for name, extreme in (("falls", low), ("rises", high)):
                before = {a: extreme[a] - share[a] * (extreme[a] - 1.0) for a in ASSETS}
                frame[name].append((before, dict(extreme)))
        here = last
        if jumps and rng.random() < 0.4:
            moved = [a for a in ASSETS if rng.random() < 0.7]
            here = {a: x * float(np.exp(rng.normal(0, 0.15))) if a in moved else x
                    for a, x in here.items()}  # fmt: skip
            frame["jumps"].append(here)
        frames.append(frame)
    return frames, here


def paths_of(scenarios):
    """The same as the kernel takes it; every scenario with the same number of frames."""

    def states(read):
        return np.array([[[read(f)[a] for a in ASSETS] for f in path] for path in scenarios])

    def points(name):
        most = len(scenarios[0][0][name])
        shape = (2, most, len(scenarios), len(scenarios[0]), len(ASSETS))
        out = np.empty(shape)
        for side in range(2):
            for g in range(most):
                out[side, g] = states(lambda f, g=g, side=side: f[name][g][side])
        return out

    frame_start, jump_start, asset, to = [0], [0], [], []
    for path in scenarios:
        for frame in path:
            for there in frame["jumps"]:
                asset += range(len(ASSETS))
                to += [there[a] for a in ASSETS]
                jump_start.append(len(to))
            frame_start.append(len(jump_start) - 1)
    return JointPaths(
        states(lambda f: f["low"]), states(lambda f: f["high"]), states(lambda f: f["last"]),
        points("falls"), points("rises"), np.array(frame_start, "i8"), np.array(jump_start, "i8"),
        np.array(asset, "i8"), np.array(to, "f8"),
    )  # fmt: skip


def day_of(frames, here):
    """Low, high and last of a whole path."""
    states = [f[name] for f in frames for name in ("low", "high", "last")]
    states += [there for f in frames for there in f["jumps"]] + [dict.fromkeys(ASSETS, 1.0)]
    stacked = np.array([[s[a] for a in ASSETS] for s in states])
    return stacked.min(0), stacked.max(0), np.array([here[a] for a in ASSETS])


def run_kernel(pools, k, paths, s, day, *, worst=False):
    """Code, (leg, column) results and statuses of one pool in one scenario."""
    low, high, last = day
    out, status = np.zeros((len(pools.row), 5)), np.zeros(len(pools.row), "i1")
    packed = pack(pools)
    state = new_state(packed, len(ASSETS))
    code = live(packed, k, state, paths, s, low, high, last, out, status, worst, 0)
    days = (np.repeat(part[None], len(paths.low), axis=0) for part in (low, high))
    near = find_near(find_slopes(packed), paths, *days)
    assert code == 0 or k in near.pool[near.start[s] : near.start[s + 1]]
    mine = slice(pools.start[k], pools.start[k + 1])
    if code & 4 == 0:
        out[mine, 0] = pools.beta[mine] * (last[pools.asset[mine]] - 1.0)
    return code, out[mine], status[mine]
