"""Adds up GoogleTest's JSON reports of one ctest run: prints `N passed, N failed`.

Usage: count_tests.py FOLDER, with the reports and ctest's output as ctest.log. A binary that died before its report counts as one failure.
"""

import json
import pathlib
import re
import sys


def main() -> int:
    folder = pathlib.Path(sys.argv[1])
    passed = failed = skipped = 0
    reported = set()
    for path in folder.glob("*.json"):
        report = json.loads(path.read_text())
        reported.add(path.stem.removesuffix("_test"))
        cases = [case for suite in report["testsuites"] for case in suite["testsuite"]]
        run = [case for case in cases if case.get("result") == "COMPLETED"]
        skipped += sum(1 for case in cases if case.get("result") == "SKIPPED")
        bad = sum(1 for case in run if case.get("failures"))
        passed += len(run) - bad
        failed += bad
    # "3/9 Test #3: engine ...........***Failed    0.42 sec"
    log = (folder / "ctest.log").read_text()
    results = re.findall(r"Test +#\d+: (\S+) [.]*\s*(.*?)\s+[\d.]+ sec", log)
    for name, result in results:
        if name not in reported:
            print(f"{name}: no report ({result})")
            failed += 1
        elif "Passed" not in result and failed == 0:
            print(f"{name}: {result}, though every test passed")  # a sanitizer's finding at exit
            failed += 1
    if skipped:
        print(f"{skipped} more were skipped, which say why (./NAME_test --gtest_filter=...): most want a CUDA device")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main())
