"""Whether another worker uses our instance id (K10): the two would steal the partitions from each other for ever.

A member with an instance id is called after it: `<instance id>-<something fresh>`.  The one who joins last has the
name; who had it before sees the other's when it loses its partitions, and has to stop.
"""

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from worker.adapters.kafka.calling import calling
from worker.settings import KafkaSettings

SUFFIX_CHARACTERS = len("-00000000-0000-0000-0000-000000000000")


def member_id(consumer: AIOKafkaConsumer) -> str:
    """What the coordinator calls this member; empty: it is none, or has just been told so."""
    return str(consumer._coordinator.member_id)  # told nowhere else


async def thief(admin: AIOKafkaAdminClient, settings: KafkaSettings, ours: str) -> str | None:
    """-> the host of the member that has our instance id and is not `ours`.  Raises Unavailable, Refused."""
    async with calling("read the group's members", settings.request_timeout_seconds):
        answers: list[Any] = await admin.describe_consumer_groups([settings.group])
    for _, _, _, _, _, members, *_ in (described for answer in answers for described in answer.groups):
        for name, _client, host, *_ in members:
            if name != ours and name[:-SUFFIX_CHARACTERS] == settings.group_instance_id:
                return str(host)
    return None
