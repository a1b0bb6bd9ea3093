"""Sample snapshots: a realistic book on a synthetic or a real price history."""

from risk.sample.write import write_sample

__all__ = ["write_sample"]
