"""A head of one's own: pairs drawn, a head trained, measured beside every filter, and what came of it said.

Each stage is a command of the project that can be typed by itself (`undistill.steps`). Killed anywhere and called again
it goes on; asked for more, it goes on from what is there.
"""

from undistill.fit.finish import Outcome
from undistill.fit.page import PAGE
from undistill.fit.request import EFFORTS, TEMPLATE, Quality, Request, read_budget
from undistill.fit.run import fit, planned
from undistill.fit.source import contents_of

__all__ = [
    "EFFORTS",
    "PAGE",
    "TEMPLATE",
    "Outcome",
    "Quality",
    "Request",
    "contents_of",
    "fit",
    "planned",
    "read_budget",
]
