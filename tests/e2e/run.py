"""Runs the end-to-end tests against a real server with the real default model. The last line is `N passed, N failed`.

Usage: run.py --donar build/donar [--model PATH] [-k NAME]
"""

import argparse
import pathlib
import sys
import unittest

import base


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--donar", default="build/donar", help="the binary")
    parser.add_argument("--model", default=None, help="default: the one that ./dev fetched")
    parser.add_argument("-k", default=None, help="only tests whose name holds this")
    base.OPTIONS = parser.parse_args()
    loader = unittest.TestLoader()
    if base.OPTIONS.k:
        loader.testNamePatterns = [f"*{base.OPTIONS.k}*"]
    suite = loader.discover(str(pathlib.Path(__file__).parent), pattern="test_*.py")
    result = unittest.TextTestRunner(verbosity=2, stream=sys.stdout).run(suite)
    failed = len(result.failures) + len(result.errors)
    log = base.shared().log() if failed and base._shared else ""
    if base.stop_shared() != 0:
        print("the shared server did not end with 0")
        failed += 1
    if log:
        print(f"--- the shared server's log\n{log[-4000:]}")
    print(f"{result.testsRun - len(result.failures) - len(result.errors)} passed, {failed} failed")
    return 1 if failed or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
