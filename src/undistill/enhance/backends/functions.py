"""ONNX functions for the nodes that a traced head leaves: see `undistill.heads.tracing`."""

from typing import TYPE_CHECKING

from undistill.heads.grid import CELL, LARGEST, THUMBNAIL
from undistill.heads.tracing import DOMAIN

if TYPE_CHECKING:
    from onnx import FunctionProto

# Linear resampling is written as a product of matrices: it needs no kernel that runtimes have each in their way
# (OpenVINO ignores Resize's antialias, ONNX Runtime's differs from torch's), and no size that is known before.
_TEXTS = (
    """MeanMaximum (x) => (mean, maximum) {
        axes = Constant <value_ints: ints = [2, 3]> ()
        mean = ReduceMean (x, axes)
        maximum = ReduceMax (x, axes)
    }""",
    """MeanVariance (x) => (mean, variance) {
        axes = Constant <value_ints: ints = [2, 3]> ()
        mean = ReduceMean (x, axes)
        offset = Sub (x, mean)
        square = Mul (offset, offset)
        variance = ReduceMean (square, axes)
    }""",
    # Weights (count, short) of the `short` lines of an image in `count` lines, from `start` on, of the image brought to
    # `length` lines, more or fewer.
    """Lines (short, length, start, count) => (lines) {
        first = Constant <value = int64 {0}> ()
        step = Constant <value = int64 {1}> ()
        axis = Constant <value_ints: ints = [1]> ()
        half = Constant <value = float {0.5}> ()
        one = Constant <value = float {1.0}> ()
        nothing = Constant <value = float {0.0}> ()
        few = Cast <to = 1> (short)
        scale = Div (few, length)
        numbers = Range (first, count, step)
        floats = Cast <to = 1> (numbers)
        shifted = Add (floats, start)
        middles = Add (shifted, half)
        places = Mul (middles, scale)
        column = Unsqueeze (places, axis)
        own = Range (first, short, step)
        own_floats = Cast <to = 1> (own)
        own_middles = Add (own_floats, half)
        offset = Sub (column, own_middles)
        distance = Abs (offset)
        reach = Max (scale, one)
        far = Div (distance, reach)
        near = Sub (one, far)
        weights = Max (near, nothing)
        total = ReduceSum (weights, axis)
        lines = Div (weights, total)
    }""",
    """Part (x, size, place) => (y) {
        zero = Constant <value = int64 {0}> ()
        one = Constant <value = int64 {1}> ()
        two = Constant <value = int64 {2}> ()
        three = Constant <value = int64 {3}> ()
        own = Shape (x)
        own_height = Gather (own, two)
        own_width = Gather (own, three)
        height = Gather (size, zero)
        width = Gather (size, one)
        row = Gather (place, zero)
        column = Gather (place, one)
        whole_height = Gather (place, two)
        whole_width = Gather (place, three)
        rows = undistill.Lines (own_height, whole_height, row, height)
        columns = undistill.Lines (own_width, whole_width, column, width)
        across = Transpose <perm = [1, 0]> (columns)
        wide = MatMul (x, across)
        y = MatMul (rows, wide)
    }""",
    """Whole (x, size) => (y) {
        begin = Constant <value_floats: floats = [0.0, 0.0]> ()
        floats = Cast <to = 1> (size)
        place = Concat <axis = 0> (begin, floats)
        y = undistill.Part (x, size, place)
    }""",
    """Enlarged (x, like, place) => (y) {
        size = Shape <start = 2, end = 4> (like)
        y = undistill.Part (x, size, place)
    }""",
    """Resized (x, like) => (y) {
        size = Shape <start = 2, end = 4> (like)
        y = undistill.Whole (x, size)
    }""",
    """Halved (x) => (y) {
        one = Constant <value = int64 {1}> ()
        two = Constant <value = int64 {2}> ()
        own = Shape <start = 2, end = 4> (x)
        more = Add (own, one)
        size = Div (more, two)
        y = undistill.Whole (x, size)
    }""",
    # `fitted_size`: by the short side or by the area, px.
    """Fitted (size, side, area) => (fitted) {
        zero = Constant <value = int64 {0}> ()
        one = Constant <value = int64 {1}> ()
        least = Constant <value = double {1.0}> ()
        real = Cast <to = 11> (size)
        height = Gather (real, zero)
        width = Gather (real, one)
        short = Min (height, width)
        all = Mul (height, width)
        by_side = Div (side, short)
        share = Div (area, all)
        by_area = Sqrt (share)
        scale = Min (by_side, by_area)
        scaled = Mul (real, scale)
        rounded = Round (scaled)
        some = Max (rounded, least)
        fitted = Cast <to = 7> (some)
    }""",
    f"""Look <trained_at> (x) => (whole, thumbnail, place) {{
        zero = Constant <value = int64 {{0}}> ()
        one = Constant <value = int64 {{1}}> ()
        size = Shape <start = 2, end = 4> (x)
        real = Cast <to = 11> (size)
        height = Gather (real, zero)
        width = Gather (real, one)
        short = Min (height, width)
        trained = Constant <value_int: int = @trained_at> ()
        is_any = Equal (trained, zero)
        trained_real = Cast <to = 11> (trained)
        side = Where (is_any, short, trained_real)
        largest = Constant <value = double {{{float(LARGEST)}}}> ()
        whole_size = undistill.Fitted (size, side, largest)
        whole = undistill.Whole (x, whole_size)
        small_side = Constant <value = double {{{float(THUMBNAIL)}}}> ()
        small_area = Constant <value = double {{{float(CELL * THUMBNAIL**2)}}}> ()
        small = undistill.Fitted (whole_size, small_side, small_area)
        cell = Constant <value = int64 {{{CELL}}}> ()
        rest = Constant <value = int64 {{{CELL - 1}}}> ()
        more = Add (small, rest)
        cells = Div (more, cell)
        small_size = Mul (cells, cell)
        thumbnail = undistill.Whole (whole, small_size)
        begin = Constant <value_floats: floats = [0.0, 0.0]> ()
        floats = Cast <to = 1> (size)
        place = Concat <axis = 0> (begin, floats)
    }}""",
)


def functions(opset: int) -> "list[FunctionProto]":
    """All of them."""
    from onnx.parser import parse_function

    head = f'<domain: "{DOMAIN}", opset_import: ["": {opset}, "{DOMAIN}": 1]>\n'
    return [parse_function(head + text) for text in _TEXTS]
