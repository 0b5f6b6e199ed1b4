"""A Kubernetes cluster of one node as a container: the real control plane.  Knows the image in `kubernetes/`.

Pods' commands are processes in that container.  Real: API, controllers, scheduling, grace periods, signals, exit codes.
Not real: images, networks, file systems, logs.  Write `trap '' TERM` or `trap 'exit 0' TERM` in commands, since a plain
`sleep` as a container's first process differs between this node and others.
"""

import asyncio
from pathlib import Path
from typing import Literal, Self

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from tests.services import images
from tests.services.container import HOST, LogLine, Server, free_port

Part = Literal["apiserver", "controller-manager", "scheduler", "node"]
Verb = Literal["kill", "down", "start", "pause", "resume"]


class Cluster(Server):
    """RBAC is on; the kubeconfig is an administrator's.  Ready in 5 s."""

    def __init__(self, folder: Path) -> None:
        """`folder` takes the kubeconfig."""
        self._port = free_port()
        self._hindered: set[tuple[Verb, Part]] = set()
        self.kubeconfig = folder / "kubeconfig"
        container = DockerContainer(images.KUBERNETES.tag).with_bind_ports(6443, self._port)
        self._api = HttpWaitStrategy(6443, "/readyz").using_tls(insecure=True)
        self._api.with_startup_timeout(60).with_poll_interval(0.1)
        super().__init__(container, LogLine("kube1: ready after", timeout_seconds=120))

    @property
    def url(self) -> str:
        """The API server's, the same after a kill."""
        return f"https://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.kubeconfig.write_text(self._run("kubeconfig", "--server", self.url))
            self.kubeconfig.chmod(0o600)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    async def ctl(self, verb: Verb, part: Part) -> None:
        """Does something to one part of the cluster; the container goes on.

        kill: SIGKILL, and it comes back by itself (the API server in some 3 s); down: SIGKILL, and it stays away until
        start; pause and resume: SIGSTOP and SIGCONT.  Raises RuntimeError, e.g. where a part to be killed is not there.
        """
        await asyncio.to_thread(self._ctl, verb, part)

    def control(self, *controllers: str) -> None:
        """Runs more of Kubernetes' own controllers, such as `statefulset-controller`, until the container is killed.

        Jobs and their pods do without them, and so do most tests.
        """
        flags = ["--kubeconfig=/var/lib/kube1/admin.kubeconfig", "--leader-elect=false", "--secure-port=0"]
        command = ["/kube1", "controller-manager", *flags, f"--controllers={','.join(controllers)}"]
        self._docker.exec_run(command, detach=True)

    def revive(self) -> None:
        """The container and every part of it; the API server answers."""
        super().revive()
        for verb, part in sorted(self._hindered):
            self._ctl("start" if verb == "down" else "resume", part)
        self._api.wait_until_ready(self._container)

    def _ctl(self, verb: Verb, part: Part) -> None:
        self._run("ctl", verb, part)
        match verb:
            case "kill":
                self._hindered.discard(("pause", part))  # the next one is not frozen
            case "down":
                self._hindered.discard(("pause", part))
                self._hindered.add(("down", part))
            case "start":
                self._hindered.discard(("down", part))
            case "pause":
                self._hindered.add(("pause", part))
            case "resume":
                self._hindered.discard(("pause", part))

    def _run(self, *arguments: str) -> str:
        result = self._container.exec(["/kube1", *arguments])
        if result.exit_code:
            raise RuntimeError(f"kube1 {' '.join(arguments)}: {result.output.decode(errors='replace').strip()}")
        return result.output.decode()
