#!/usr/bin/env python3
"""Writes the digits data set, mirrored, as PNG images in a folder for each class: an image folder to try things on.

Usage: python3 scripts/digit-images.py FOLDER [COUNT]

COUNT images of each class (default 60), 8x8 pixels of 8 bits, to FOLDER/CLASS/NUMBER.png. Needs only Python's standard
library.
"""

import gzip
import struct
import sys
import zlib
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "src/data/digits.csv.gz"
SIDE = 8


def png(pixels):
    """The bytes of a grey image with one byte for each pixel."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + bytes(pixels[row * SIDE:(row + 1) * SIDE]) for row in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def main():
    folder, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60
    written = {}
    for line in gzip.open(DATA, "rt"):
        values = line.strip().split(",")
        if len(values) != SIDE * SIDE + 1 or not values[0].isdigit():
            continue
        *pixels, label = map(int, values)
        number = written.get(label, 0)
        if number == count:
            continue
        written[label] = number + 1
        # Values from 0 to 16.
        mirrored = [min(255, pixels[i // SIDE * SIDE + SIDE - 1 - i % SIDE] * 16) for i in range(SIDE * SIDE)]
        path = folder / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(mirrored))
    print(f"wrote {sum(written.values())} images of {len(written)} classes to {folder}")


if __name__ == "__main__":
    main()
