"""Account pools: positions that share collateral, through joint paths."""
