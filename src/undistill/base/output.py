"""Whether to say how it goes: bars, and the line that ends a verb."""

from contextvars import ContextVar

QUIET: ContextVar[bool] = ContextVar("quiet", default=False)
"""`undistill --quiet`: results and errors alone."""
