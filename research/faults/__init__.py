"""The machine that looks for faults: broken files for every command that reads, bad moments for every one that writes.

    python -m research.faults --minutes 60 [-o faults.json]

See `inputs` (mutated files, run through `undistill.cli`) and `writers` (a full disk, a folder that can't be written, an
error of the disk, kill -9).
"""
