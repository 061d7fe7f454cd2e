#!/usr/bin/env python3
"""Checks licences and sources of every crate in Cargo.lock against deny.toml.

What `cargo deny check licenses sources` does, without having to build cargo-deny. Names the crates
that come in several versions, too. Exit code 1 if a crate has a licence or a source that deny.toml
does not allow.
"""
import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def allowed(expression: str, allow: set[str]) -> bool:
    """Evaluates an SPDX expression; `/` is the old way to write OR."""
    tokens = re.findall(r"[()]|[^\s()/]+", expression.replace("/", " OR "))
    position = 0

    def peek() -> str | None:
        return tokens[position] if position < len(tokens) else None

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def term() -> bool:
        token = take()
        if token == "(":
            value = either()
            take()
            return value
        if peek() == "WITH":
            take()
            token = f"{token} WITH {take()}"
        return token in allow

    def both() -> bool:
        value = term()
        while peek() == "AND":
            take()
            value = term() and value
        return value

    def either() -> bool:
        value = both()
        while peek() == "OR":
            take()
            value = both() or value
        return value

    value = either()
    if peek() is not None:
        sys.exit(f"cannot read the licence expression {expression!r}")
    return value


def main() -> int:
    deny = tomllib.loads((ROOT / "deny.toml").read_text())
    allow = set(deny["licenses"]["allow"])
    sources = {f"registry+{url}" for url in deny["sources"]["allow-registry"]}
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    metadata = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    crates = [crate for crate in json.loads(metadata)["packages"] if crate["source"]]

    problems, versions = [], defaultdict(list)
    for crate in crates:
        name = f"{crate['name']} {crate['version']}"
        versions[crate["name"]].append(crate["version"])
        if not crate["license"]:
            problems.append(f"{name}: names no licence")
        elif not allowed(crate["license"], allow):
            problems.append(f"{name}: {crate['license']} is not in deny.toml")
        if crate["source"] not in sources:
            problems.append(f"{name}: comes from {crate['source']}")

    several = [f"{name} {' '.join(v)}" for name, v in sorted(versions.items()) if len(v) > 1]
    print(f"{len(crates)} crates, {len(problems)} problems; in several versions: {len(several)}")
    for line in several:
        print(f"  {line}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
