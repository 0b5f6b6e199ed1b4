#!/usr/bin/env bash
# build.sh TAG: etcd, API server, controllers, scheduler and a node in one static binary (main.go), FROM scratch.
# Needs go, docker, busybox-static; BUILD is the folder to build in. The first time 6 to 12 minutes on 2 cores and 3 GB
# of Go's build cache, then seconds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tag=$1
image=$BUILD/image
root=$image/rootfs
version=v1.34.4

# What the components take for their own version, and report.
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags="$flags -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=34 -X $package.gitTreeState=clean"
done
mkdir -p "$image"
(cd "$here" && CGO_ENABLED=0 nice -n 15 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$image/kube1" .)

# Pods' commands run as plain processes in this image, so it has busybox's commands.
rm -rf "$root"
mkdir -p "$root"/{bin,etc,tmp,var/lib/kube1}
chmod 1777 "$root/tmp"
cp "$(command -v busybox)" "$root/bin/busybox"
"$root/bin/busybox" --list | grep -v '^busybox$' | while read -r applet; do ln -s busybox "$root/bin/$applet"; done
echo 'root:x:0:0:root:/:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"

cat > "$image/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY rootfs/ /
COPY kube1 /kube1
ENV PATH=/bin
EXPOSE 6443
VOLUME /var/lib/kube1
ENTRYPOINT ["/kube1"]
CMD ["up", "--san", "172.17.0.1,host.docker.internal"]
DOCKERFILE
docker build -q -t "$tag" "$image"
