"""Runs a command beside a real server with the default model: DONAR_URL says where it listens. The exit code is the command's.

Usage: with_server.py --donar build/donar [--model PATH] -- COMMAND...
"""

import argparse
import os
import subprocess
import sys

from server import DonarServer


def main() -> int:
    own, command = sys.argv[1 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--donar", default="build/donar")
    parser.add_argument("--model", default=None)
    options = parser.parse_args(own)
    with DonarServer(options.donar, model=options.model) as server:
        return subprocess.run(command, env=os.environ | {"DONAR_URL": server.url}).returncode


if __name__ == "__main__":
    sys.exit(main())
