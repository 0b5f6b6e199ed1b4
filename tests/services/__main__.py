"""The real servers for tests, on this machine: `python -m tests.services [python | kafka | s3 | kubernetes]...`

Starts a Docker engine and builds the images that are not there; without a name, all of them, and the command-line tools
with which they are deployed to.  The first time about 15 minutes on two cores, nearly all of it Kubernetes; after that
half a second.  SERVICES_CACHE says where it builds.
Exit codes: 0 all is there, 1 not, 2 wrong usage.
"""

# ruff: noqa: T201  # the command line prints

import sys

from tests.services import engine, images, tools


def main(names: list[str]) -> int:
    """Prints a line for the engine and one for each image; -> exit code."""
    wanted = [image for image in images.ALL if not names or image.name in names]
    if set(names) - {image.name for image in images.ALL}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        with images.locked("engine"):
            print(engine.ensure(images.cache() / "dockerd.log"), flush=True)
        for image in wanted:
            print(images.ensure(image), flush=True)
        if not names:
            with images.locked("tools"):
                print(tools.ensure(), flush=True)
    except (engine.Missing, images.BuildFailed) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


sys.exit(main(sys.argv[1:]))
