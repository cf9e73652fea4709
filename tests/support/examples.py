"""
How many random sessions the tests try, and how hypothesis makes them.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck

__all__ = ["COMMON", "EXAMPLES"]

EXAMPLES = int(os.environ.get("POP3CONNECT_FUZZ_EXAMPLES", "0"))
"""More sessions than the suite has time for, and others each time; 0: its own ones."""

COMMON: dict[str, Any] = {
    "deadline": None,
    "derandomize": not EXAMPLES,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}
