"""Lines for whoever reads along: when nobody does any more, the work goes on, and cleans up, all the same."""

import os
from typing import TextIO


def write_line(stream: TextIO, line: str) -> None:
    """Write a line at once; after the reader has gone (a closed pipe or terminal) it goes nowhere, like all others."""
    try:
        stream.write(line + "\n")
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
