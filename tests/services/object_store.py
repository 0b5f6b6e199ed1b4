"""An S3 server as a container.  Knows the image in `s3/`."""

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from tests.services import images
from tests.services.container import HOST, Server, free_port


class ObjectStore(Server):
    """With atomic conditional PUTs.  Ready in half a second, with its objects after a kill.

    Addresses are path-style; with a `domain`, a bucket's host name below it will do as well.
    """

    access_key = "testaccess"
    secret_key = "testsecret123"  # noqa: S105  # of a server that lives as long as a test run
    region = "us-east-1"

    def __init__(self, domain: str = "") -> None:
        self._port = free_port()
        container = DockerContainer(images.S3.tag).with_bind_ports(7070, self._port)
        container = container.with_env("VGW_VIRTUAL_DOMAIN", domain) if domain else container
        healthy = HttpWaitStrategy(7070, "/healthz").with_startup_timeout(30).with_poll_interval(0.1)
        super().__init__(container, healthy)

    @property
    def endpoint_url(self) -> str:
        """The same after a kill."""
        return f"http://{HOST}:{self._port}"
