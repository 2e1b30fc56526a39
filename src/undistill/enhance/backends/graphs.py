"""Backends that run a head as a graph: ONNX Runtime and OpenVINO."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from undistill.enhance.backends.graph import Pool, input_names, part, tiled, traced_graph, whole
from undistill.enhance.backends.runtimes import RUNTIMES, Run
from undistill.heads import GridHead, Head
from undistill.heads.grid import thumbnail_size
from undistill.heads.pooling import Gathered, Tile, gather, share
from undistill.heads.resampling import resized

if TYPE_CHECKING:
    from onnx import ModelProto

Feeds = dict[str, Tensor]


class GraphBackend:
    """See `undistill.enhance.backends.Backend`. Sessions are made when the first image needs them, and kept, but for
    those that gather statistics of a large image, one for each layer that pools.

    Args:
        name: "onnx" or "openvino".
        dtype: bfloat16 is OpenVINO's alone.

    Raises:
        UsageError: the runtime is not installed, or can't run the head.
    """

    order = torch.contiguous_format

    def __init__(self, name: str, head: Head, dtype: torch.dtype) -> None:
        self._head = head
        self._load: Callable[[ModelProto], Run] = partial(RUNTIMES[name], dtype=dtype)
        self._model = traced_graph(head, name)
        self._run = self._load(whole(self._model))

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([_run(self._run, self._feeds(image[None])) for image in x])

    @contextmanager
    def tiles(self, make: Callable[[], Iterable[Tile]]) -> Iterator[Callable[[Tile], Tensor]]:
        _, pools, names, run = self._tiled
        known: Feeds = {}
        if isinstance(self._head, GridHead):
            seen = torch.stack([share(tile, self._head.scale)[0] for tile in make()]).sum(0)[None]
            known |= self._looked_at(seen)
        for pool in pools:
            known |= self._gathered(pool, known, make)

        def run_tile(tile: Tile) -> Tensor:
            return _run(run, self._of_tile(tile, known, names))

        yield run_tile

    def _gathered(self, pool: Pool, known: Feeds, make: Callable[[], Iterable[Tile]]) -> Feeds:
        """What a layer has of the whole image, when those before it are known."""
        graph = part(self._tiled[0], pool.output)
        names, run = input_names(graph), self._load(graph)
        gathered: Gathered | None = None
        for tile in make():
            x = _run(run, self._of_tile(tile, known, names))
            gathered = gather(x, pool.second, tile, gathered)
        assert gathered is not None
        mean, extra = gathered[1:]
        return {pool.mean: mean.float(), pool.extra: extra.float()}

    @cached_property
    def _tiled(self) -> "tuple[ModelProto, list[Pool], Sequence[str], Run]":
        model, pools = tiled(self._model)
        graph = part(model, "y")
        return model, pools, input_names(graph), self._load(graph)

    def _feeds(self, x: Tensor) -> Feeds:
        """What the graph is given of an image in one piece, (1, 3, H, W)."""
        if not isinstance(self._head, GridHead):
            return {"x": x}
        height, width = x.shape[-2:]
        seen = self._looked_at(resized(x, self._head.scale(height, width)))
        return {"x": x, **seen, "place": torch.tensor([0.0, 0.0, height, width])}

    @staticmethod
    def _of_tile(tile: Tile, known: Feeds, names: Sequence[str]) -> Feeds:
        """What a graph with inputs of these names is given of a tile."""
        place = torch.tensor([tile.place.row, tile.place.column, tile.place.height, tile.place.width])
        feeds = {"x": tile.x, "place": place.float(), **known}
        return {name: feeds[name] for name in names}

    @staticmethod
    def _looked_at(seen: Tensor) -> Feeds:
        return {"whole": seen, "thumbnail": resized(seen, thumbnail_size(seen.shape[-2], seen.shape[-1]))}


def _run(run: Run, feeds: Feeds) -> Tensor:
    return torch.from_numpy(run({name: value.contiguous().numpy() for name, value in feeds.items()}))
