"""The service: heads behind HTTP, and a page to try them at.

A request takes a place (`queue.Queue`), is read into memory and looked at (`upload`), waits for a thread that decodes,
enhances and encodes it, and is answered with the bytes that `undistill enhance` would have written. `guard` stands in
front of all of it; what goes wrong is told as a `problems.Problem`.
"""
