"""What evaluations came to, as an HTML file that needs nothing but a browser: the report on one, and several runs compared."""

from homing.reporting.comparison import Compared, Comparison, compare_runs, comparison_page
from homing.reporting.made import flat
from homing.reporting.single import report

__all__ = ["Compared", "Comparison", "compare_runs", "comparison_page", "flat", "report"]
