"""Settings every test runs under, and the real market data where a machine has it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before NumPy and Prefect are imported: one native thread, a database of the session's own.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
_PREFECT_HOME = tempfile.TemporaryDirectory(prefix="bulkhead-prefect-")
os.environ["PREFECT_HOME"] = _PREFECT_HOME.name
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"
os.environ["DO_NOT_TRACK"] = "1"

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

#: Programs that drills start; they need what the drill tells them.
collect_ignore = ["killed_at.py", "no_peeking.py"]

# Compiled kernels make the first example slow and the machine may be shared: no deadline.
settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
settings.register_profile(
    "thorough",
    deadline=None,
    max_examples=600,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Folder of real prices and tiers; tests that need it skip where it is not."""
    folder = os.environ.get("BULKHEAD_MARKET_DATA")
    if not folder:
        pytest.skip("needs real market data: set BULKHEAD_MARKET_DATA to its folder")
    return Path(folder)
