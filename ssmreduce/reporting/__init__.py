"""One self-contained HTML file that shows a model and what was made of it.

The verb is `report`; the room is called ``reporting``, so that the function does not hide it.
"""

from ._report import HTMLReport, report

__all__ = ["HTMLReport", "report"]
