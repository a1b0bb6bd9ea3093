"""Sums by account and scenario of tables of many millions of rows, by codes and not by names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa


class Sums(NamedTuple):
    """Sums of the pairs of an account and a scenario that occur, in the order of their codes."""

    accounts: list[str]
    scenarios: list[str]
    account: np.ndarray  # (pair,) into `accounts`
    scenario: np.ndarray  # (pair,) into `scenarios`
    columns: dict[str, np.ndarray]  # (pair,)


def coded(column: pa.ChunkedArray | pa.Array) -> tuple[list[str], np.ndarray]:
    """Names in the order they first occur, and each row's place among them."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_dictionary(whole.type):
        whole = whole.dictionary_encode()
    return whole.dictionary.to_pylist(), whole.indices.to_numpy(zero_copy_only=False)


def sum_by_account(table: pa.Table, scenario: str, columns: tuple[str, ...]) -> Sums:
    """Sum columns over the rows of each account and scenario, in the order of the rows.

    Parameters
    ----------
    table : Table
        With the columns ``account``, `scenario` (text) and `columns`.
    """
    accounts, account = coded(table["account"])
    scenarios, place = coded(table[scenario])
    key = place.astype("i8") * max(len(accounts), 1) + account
    pairs, row = np.unique(key, return_inverse=True)
    sums = {
        name: np.bincount(row, table[name].to_numpy(), len(pairs)).astype("f8") for name in columns
    }
    where, who = np.divmod(pairs, max(len(accounts), 1))
    return Sums(accounts, scenarios, who, where, sums)


def worst_by_account(sums: Sums, cost: np.ndarray, n: int) -> list[int]:
    """Pairs of the `n` accounts with the greatest costs, each once, the dearest first.

    Of pairs that cost the same, the first by the account's name and then the scenario's.
    """
    # No account has more pairs than there are scenarios.
    enough = min(n * max(len(sums.scenarios), 1), len(cost))
    if not enough:
        return []
    least = np.partition(cost, len(cost) - enough)[len(cost) - enough]
    near = np.flatnonzero(cost >= least).tolist()
    near.sort(
        key=lambda pair: (
            -cost[pair],
            sums.accounts[sums.account[pair]],
            sums.scenarios[sums.scenario[pair]],
        )
    )
    kept: dict[int, int] = {}
    for pair in near:
        kept.setdefault(int(sums.account[pair]), pair)
        if len(kept) == n:
            break
    return list(kept.values())
