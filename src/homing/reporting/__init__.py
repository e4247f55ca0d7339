"""What an evaluation came to, as one HTML file that needs nothing but a browser: the report, and several runs compared."""

from homing.reporting.report import report

__all__ = ["report"]
