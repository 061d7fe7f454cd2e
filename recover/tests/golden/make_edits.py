"""Makes edits.json: streams of edits, written bit by bit as FORMAT.md says. `python tests/golden/make_edits.py`."""

import json
import struct
from pathlib import Path

CASES = [
    # Most codes change: k = 0, limit 1.
    ([2, 8], [[p, 1 if p % 3 else -1] for p in range(16) if p not in (4, 9)]),
    # Few do: k > 0, limit 1; the first and the last code are among them.
    ([4, 64], [[0, 1], [1, -1], [40, -1], [77, 1], [128, 1], [255, -1]]),
    # Steps of up to three.
    ([3, 32], [[2, 3], [9, -1], [10, -2], [31, 2], [64, -3], [70, 1]]),
]


def stream(edits: list[list[int]], k: int, limit: int) -> str:
    """The bits, as text, in their order."""
    bits, after = "", 0
    for place, step in edits:
        gap, after = place - after, place + 1
        bits += "1" * (gap >> k) + "0" + "".join(str(gap >> bit & 1) for bit in range(k))
        bits += "1" if step < 0 else "0"
        bits += "1" * (abs(step) - 1) + ("0" if abs(step) < limit else "")
    return bits


def best(edits: list[list[int]], limit: int) -> int:
    """The k that makes the stream shortest, the first of several."""
    return min(range(25), key=lambda k: len(stream(edits, k, limit)))


def packed(bits: str) -> bytes:
    """Bits as bytes, the first in the lowest bit."""
    padded = bits + "0" * (-len(bits) % 8)
    return bytes(int(padded[at : at + 8][::-1], 2) for at in range(0, len(padded), 8))


def case(shape: list[int], edits: list[list[int]]) -> dict[str, object]:
    """One list."""
    limit = max(abs(step) for _, step in edits)
    k = best(edits, limit)
    data = struct.pack("<IBBBB", len(edits), k, limit, 0, 0) + packed(stream(edits, k, limit))
    return {"shape": shape, "form": 0, "edits": edits, "hex": data.hex()}


def number(value: int, width: int) -> str:
    """A number's bits, the least significant first."""
    return "".join(str(value >> bit & 1) for bit in range(width))


def grouped(rows: list[int], cols: list[int], edits: list[list[int]]) -> dict[str, object]:
    """A list for each group, where `rows` and `cols` are the groups of each row and column."""
    limit = max(abs(step) for _, step in edits)
    counts = [max(rows) + 1, max(cols) + 1]
    bits = ""
    for side, count in zip((rows, cols), counts, strict=True):
        bits += "".join(number(group, (count - 1).bit_length()) for group in side)
    for row in range(counts[0]):
        for col in range(counts[1]):
            own_rows = [at for at, group in enumerate(rows) if group == row]
            own_cols = [at for at, group in enumerate(cols) if group == col]
            part = []
            for place, step in edits:
                r, c = divmod(place, len(cols))
                if r in own_rows and c in own_cols:
                    part.append([own_rows.index(r) * len(own_cols) + own_cols.index(c), step])
            k = best(part, limit)
            bits += number(len(part), 32) + number(k, 5) + stream(part, k, limit)
    head = struct.pack("<IBBBBII", len(edits), counts[0], limit, 1, counts[1], len(rows), len(cols))
    return {"shape": [len(rows), len(cols)], "form": 1, "edits": edits, "hex": (head + packed(bits)).hex()}


GROUPED = [
    # Groups of columns alone, one of them without edits; limit 1.
    ([0, 0, 0], [0, 1, 1, 0, 2, 3, 3, 1], [[1, 1], [2, -1], [9, 1], [12, 1], [15, -1], [23, 1]]),
    # Groups of both, out of order; steps of up to two.
    ([1, 0, 2, 1], [1, 0, 0, 1, 1], [[0, 2], [3, 1], [6, -1], [8, -2], [13, 1], [19, 1]]),
]

if __name__ == "__main__":
    found = [case(*each) for each in CASES] + [grouped(*each) for each in GROUPED]
    lines = ",\n".join(" " + json.dumps(each) for each in found)
    Path(__file__).with_name("edits.json").write_text(f"[\n{lines}\n]\n")
