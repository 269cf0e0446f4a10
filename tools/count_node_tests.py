"""Runs a command that uses node:test, shows its output, and adds the line `N passed, N failed` from its summary.

Usage: count_node_tests.py -- COMMAND...
"""

import re
import subprocess
import sys


def main() -> int:
    command = sys.argv[sys.argv.index("--") + 1 :]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    counts = {"pass": 0, "fail": 0, "cancelled": 0}
    seen = False
    for line in process.stdout:
        print(line, end="", flush=True)
        # "# pass 12" (TAP) or "ℹ pass 12" (spec reporter)
        match = re.match(r"^\S+ (pass|fail|cancelled) (\d+)\s*$", line)
        if match:
            seen = True
            counts[match.group(1)] += int(match.group(2))
    status = process.wait()
    failed = counts["fail"] + counts["cancelled"]
    if not seen or (status != 0 and failed == 0):
        failed += 1
    print(f"{counts['pass']} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
