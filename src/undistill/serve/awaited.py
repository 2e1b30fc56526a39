"""Work that is given up when nobody waits for it."""

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from undistill.serve.problems import Problem


async def while_awaited(request: Request, work: Callable[[], Any], left: float, limit: float) -> Any:
    """What `work()` comes to, unless the client goes away or time is over: then it is cancelled.

    Args:
        left: seconds for it.
        limit: for the whole request, to be told.

    Raises:
        ClientDisconnect: nobody waits for the answer.
        Problem: it took longer.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(work()), asyncio.ensure_future(gone())]
    try:
        done, _ = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0] in done:
            return tasks[0].result()
        if tasks[1] in done:
            raise ClientDisconnect
        raise Problem("late", f"It took more than {limit:g} s: send a smaller image, or ask again later.")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # else a thread could take up work that is only about to be given up
