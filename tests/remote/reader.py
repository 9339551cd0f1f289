#!/usr/bin/env python3
"""Read a file over and over through one handle, past the page cache, and compare every byte.

    python3 reader.py FILE ORIGINAL REPORT

REPORT has a line for each thing that happens, with the seconds since the start of the machine: `open`, `pass`
for each time that the whole file was read and right, `wrong OFFSET`, `error NAME` with the first error, which
ends it. Its own end is asked for by removing REPORT.
"""
import errno
import mmap
import os
import sys
import time

PIECE = 256 << 10


def main():
    path, original, report = sys.argv[1:]
    with open(original, "rb") as file:
        wanted = file.read()
    buffer = mmap.mmap(-1, PIECE)
    with open(report, "w", encoding="ascii", buffering=1) as lines:

        def say(what):
            lines.write(f"{time.clock_gettime(time.CLOCK_BOOTTIME):.2f} {what}\n")

        handle = os.open(path, os.O_RDONLY | os.O_DIRECT)
        say("open")
        while os.path.exists(report):
            at = 0
            while at < len(wanted):
                try:
                    count = os.preadv(handle, [buffer], at)
                except OSError as error:
                    say(f"error {errno.errorcode[error.errno]}")
                    return
                if count == 0 or buffer[:count] != wanted[at:at + count]:
                    say(f"wrong {at}")
                    return
                at += count
            say("pass")


if __name__ == "__main__":
    main()
