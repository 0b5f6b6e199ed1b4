"""A Kafka broker, alone in its cluster, as a container.  Knows the image in `kafka/`."""

from collections.abc import Mapping

from testcontainers.core.container import DockerContainer

from tests.services import images
from tests.services.container import HOST, LogLine, Server, free_port


class Broker(Server):
    """Plain text, no authorisation; topics are made on purpose only.  Ready in 1 to 3 s, again after a kill in 4 s."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """`settings` go on top of the image's (defaults.properties), as in {"message.max.bytes": "2000000"}."""
        self._port = free_port()
        container = DockerContainer(images.KAFKA.tag).with_bind_ports(9093, self._port)
        container.with_env("KAFKA_ADVERTISED_LISTENERS", f"PLAINTEXT://{HOST}:{self._port},BROKER://localhost:9092")
        for key, value in (settings or {}).items():
            container.with_env(_variable(key), value)
        super().__init__(container, LogLine("Kafka Server started", timeout_seconds=60))

    @property
    def bootstrap_servers(self) -> str:
        """Host and port, the same after a kill."""
        return f"{HOST}:{self._port}"


def _variable(key: str) -> str:
    """As the image's `launch` reads it back."""
    return "KAFKA_" + key.replace("_", "__").replace("-", "___").replace(".", "_").upper()
