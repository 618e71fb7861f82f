"""What a run or a study looks like: figures as PNG and SVG, and one page that holds all. Nothing here needs torch."""

from lrlab.report.charts import write_figures
from lrlab.report.confusion import confusion_png
from lrlab.report.html import write_report
from lrlab.report.range_test import write_range_test
from lrlab.report.replay import write_replay

__all__ = ["confusion_png", "write_figures", "write_range_test", "write_replay", "write_report"]
