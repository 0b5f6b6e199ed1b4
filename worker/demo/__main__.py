"""`python -m worker.demo [--json] [FOLDER]`: what `worker demo` does; a given folder is kept, with all logs."""

import asyncio
import sys
from pathlib import Path

from worker.demo import run_demo

if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--json"]
    kept = Path(arguments[0]) if arguments else None
    sys.exit(asyncio.run(run_demo(json="--json" in sys.argv[1:], folder=kept)))
