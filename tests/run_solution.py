"""Runs reference solutions of coding questions (our own, trusted) against their tests; stdin: a JSON list."""

from __future__ import annotations

import json
import sys
from typing import Any


def plain(x: Any) -> Any:
    return [plain(i) for i in x] if isinstance(x, list | tuple) else x


def close(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= 1e-6 * max(1, abs(a), abs(b))
    return bool(a == b)


SAME = {
    "exact": lambda got, want: got == want,
    "approx": close,
    "any_of": lambda got, want: got in want,
    "unordered": lambda got, want: sorted(map(json.dumps, got)) == sorted(map(json.dumps, want)),
}


def run(case: dict[str, Any], names: dict[str, Any]) -> Any:
    if not case["ops"]:
        return plain(names[case["entry"]](*case["args"]))
    target, out = None, []
    for op, args in zip(case["ops"], case["args"], strict=True):
        if target is None:
            target, made = names[op](*args), None
        else:
            made = getattr(target, op)(*args)
        out.append(plain(made))
    return out


failed = 0
for question in json.load(sys.stdin):
    names: dict[str, Any] = {}
    exec(question["solution"], names)
    for i, test in enumerate(question["tests"]):
        got = run({**test, "entry": question["entry"]}, names)
        if not SAME[question["compare"]](got, test["expected"]):
            failed += 1
            print(f"{question['id']} test {i}: got {got!r}, expected {test['expected']!r}")
sys.exit(bool(failed))
