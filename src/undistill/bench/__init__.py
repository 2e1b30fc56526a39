"""What an image costs: the ways that lead to one, and the heads, timed against each other in the same run."""

from undistill.bench.machine import machine
from undistill.bench.timing import cost, measure_steps, median

__all__ = ["cost", "machine", "measure_steps", "median"]
