"""CUDA graphs: what a GPU is asked to do for an image is kept by the image's size, and asked again in one."""

from collections.abc import Callable
from threading import Lock

import torch
from torch import Tensor

Run = Callable[[Tensor], Tensor]

REPEATED = 3
"""Images of a size from which on it is captured: capturing takes as long as some images."""
MOST = 4
"""Sizes that are kept; each holds its maps in the GPU's memory."""
PIXELS = 1024 * 1024
"""Of all images of a batch together, at most: for larger ones the GPU is busy longer than it takes to ask it."""
AGREES = 1e-3
"""How far a graph's result may lie from that of the same function without it, of 2, the range of images."""


class BySize:
    """Runs a function; where sizes repeat, by graphs. Several threads may call it, and wait for one another.

    No graph is trusted before it has given what the function gives. Where it can't be captured, or gives something
    else, the function runs as it is.

    Args:
        run: (N, 3, H, W) in [-1, 1] to the same.
        capture: see `capture`.
    """

    def __init__(self, run: Run, capture: Callable[[Run, Tensor], Run]) -> None:
        self._run = run
        self._capture = capture
        self._seen: dict[tuple[int, ...], int] = {}
        self._graphs: dict[tuple[int, ...], Run] = {}
        self._lock = Lock()

    def __call__(self, x: Tensor) -> Tensor:
        size = tuple(x.shape)
        if x.shape[0] * x.shape[2] * x.shape[3] > PIXELS:
            return self._run(x)
        with self._lock:
            if size in self._graphs:
                return self._graphs[size](x)
            self._seen[size] = self._seen.get(size, 0) + 1
            made = self._run(x)
            if self._seen[size] >= REPEATED:
                self._keep(size, self._trusted(x, made))
            return made

    def _trusted(self, x: Tensor, made: Tensor) -> Run:
        try:
            graph = self._capture(self._run, x)
            return graph if bool((graph(x) - made).abs().max() <= AGREES) else self._run
        except RuntimeError:  # something in the head can't be captured, or memory has run out
            return self._run

    def _keep(self, size: tuple[int, ...], run: Run) -> None:
        self._graphs[size] = run
        if len(self._graphs) > MOST:
            oldest = next(iter(self._graphs))
            del self._graphs[oldest], self._seen[oldest]


def capture(run: Run, x: Tensor) -> Run:
    """The function as a CUDA graph, for tensors like x.

    Raises:
        RuntimeError: something in it can't be captured.
    """
    kept = x.clone()
    stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(stream):
        for _ in range(3):  # libraries choose their kernels before the capture
            run(kept)
    torch.cuda.current_stream(x.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads go on copying images
        result = run(kept)

    def replay(x: Tensor) -> Tensor:
        kept.copy_(x)
        graph.replay()
        return result.clone()

    return replay
