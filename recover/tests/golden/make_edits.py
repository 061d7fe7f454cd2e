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


def case(shape: list[int], edits: list[list[int]]) -> dict[str, object]:
    """A case with the k that makes its stream shortest, the first of several."""
    limit = max(abs(step) for _, step in edits)
    k = min(range(25), key=lambda k: len(stream(edits, k, limit)))
    bits = stream(edits, k, limit)
    padded = bits + "0" * (-len(bits) % 8)
    body = bytes(int(padded[at : at + 8][::-1], 2) for at in range(0, len(padded), 8))
    data = struct.pack("<IBBBB", len(edits), k, limit, 0, 0) + body
    return {"shape": shape, "k": k, "limit": limit, "edits": edits, "hex": data.hex()}


if __name__ == "__main__":
    lines = ",\n".join(" " + json.dumps(case(*found)) for found in CASES)
    Path(__file__).with_name("edits.json").write_text(f"[\n{lines}\n]\n")
