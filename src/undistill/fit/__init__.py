"""A head of one's own: pairs drawn, a head trained, measured beside every filter, and what came of it said.

Each stage is a command of the project that can be typed by itself (`undistill.steps`). Killed anywhere and called again
it goes on; asked for more, it goes on from what is there.
"""

from undistill.fit.page import PAGE
from undistill.fit.request import EFFORTS, TEMPLATE, Quality, Request, read_budget
from undistill.fit.run import Outcome, fit, planned

__all__ = ["EFFORTS", "PAGE", "TEMPLATE", "Outcome", "Quality", "Request", "fit", "planned", "read_budget"]
