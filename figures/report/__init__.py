"""The report: everything rebuilt from records and theory, in four kinds of file, without training.

``Report.read(folder)`` has its tables and figures by name, ``write`` the files.  One document model
(model.py) is filled in from templates (build.py, facts.py) and rendered by four small back ends.
"""

from figures.report.build import Report
from figures.report.notebook import shown
from figures.report.output import write

__all__ = ["Report", "shown", "write"]
