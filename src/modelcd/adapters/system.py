"""The clock on the wall."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class SystemClock:
    """A `Clock` that tells the machine's time."""

    def now(self) -> datetime:
        """Return the present time in UTC."""
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        """Wait *seconds*; none or fewer return at once."""
        time.sleep(max(0.0, seconds))
