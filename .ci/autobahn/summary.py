"""Prints a line per case of an Autobahn report: its number, how it behaved, how it closed."""

import json
import sys

with open(sys.argv[1]) as report:
    (cases,) = json.load(report).values()
for case in sorted(cases, key=lambda name: [int(part) for part in name.split(".")]):
    print(case, cases[case]["behavior"], cases[case]["behaviorClose"])
