"""`worker topics create` and `check`: what Kafka's topics must be like, made and looked at.

What that is stands beside the adapter; here it is printed, a line each; one on stderr names what has to be changed.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from worker import settings
from worker.cli.exits import Exit, Wrong, complain
from worker.cli.printing import columns, say

if TYPE_CHECKING:
    from worker.adapters.kafka import Connection
    from worker.adapters.kafka.topics import Finding


async def create(*, as_json: bool) -> Exit:
    """Make the topics that are missing; those that are there are left as they are.  Raises Wrong, Unavailable."""
    from worker.adapters.kafka import topics

    given = settings.load()
    return _tell(await topics.create(_connection(given), given.partitions), as_json=as_json)


async def check(*, as_json: bool) -> Exit:
    """Look at partitions, retention and sizes, and at how long positions are kept.  Raises Wrong, Unavailable."""
    from worker.adapters.kafka import topics

    given = settings.load()
    return _tell(await topics.check(_connection(given), given.partitions), as_json=as_json)


def _connection(given: settings.Settings) -> "Connection":
    from worker.adapters.kafka import Connection

    if given.stack != "services":
        raise Wrong(f"WORKER_STACK: the stack {given.stack} has no topics to look after; services has")
    return Connection(given.kafka, given.command_bytes_max)


def _tell(findings: Sequence["Finding"], *, as_json: bool) -> Exit:
    if as_json:
        say([json.dumps([asdict(finding) for finding in findings])])
    else:
        say(columns([(each.topic, "ok" if each.ok else "WRONG", each.text) for each in findings]))
    wrong = [finding.topic for finding in findings if not finding.ok]
    if wrong:
        complain(f"wrong: {', '.join(wrong)}")
    return Exit.NO if wrong else Exit.DONE
