#!/usr/bin/env bash
# build.sh TAG: a Kafka broker (KRaft, one node) of Maven's jars, a JRE by jlink and busybox, FROM scratch.
# Needs docker, a JDK 17 with jlink, maven, busybox-static; BUILD is the folder to build in, PYTHON one with aiokafka.
# The broker runs once in a first image, for a formatted log directory and a class-data archive: it starts in 1 to 2 s.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tag=$1
root=$BUILD/rootfs

rm -rf "$BUILD/libs" "$root"
mkdir -p "$root"/{bin,tmp,etc/kafka,opt/kafka/libs,usr/bin,var/lib/kafka}
chmod 1777 "$root/tmp"

nice mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$BUILD/libs"
rm -f "$BUILD"/libs/scala-reflect* # only Scala's compiler needs it
cp "$BUILD"/libs/*.jar "$root/opt/kafka/libs/"

jlink --strip-debug --no-man-pages --no-header-files --output "$root/opt/jre" --add-modules \
  java.base,java.logging,java.management,java.naming,java.security.jgss,java.security.sasl,java.sql,java.xml,java.desktop,jdk.management,jdk.unsupported,jdk.crypto.ec,jdk.zipfs
# java.desktop is there for java.beans; what draws is not needed.
rm -f "$root"/opt/jre/lib/{libawt*,libfontmanager*,libmlib*,liblcms*,libjavajpeg*,libsplashscreen*,libjawt*,libfreetype*}
# The C library and whatever else the JRE is linked to, from this machine.
{ find "$root/opt/jre" -name '*.so'; echo "$root/opt/jre/bin/java"; } | xargs -n1 ldd 2>/dev/null | grep -o '/[^ ]*' |
  grep -v "^$root" | sort -u | while read -r library; do
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
done

cp "$(command -v busybox)" "$root/bin/busybox"
for applet in sh sed cat cp mkdir rm grep env tr kill hostname test; do ln -s busybox "$root/bin/$applet"; done
cp "$here/defaults.properties" "$here/log4j2.properties" "$root/etc/kafka/"
cp "$here/launch" "$here/train.sh" "$root/bin/"
chmod +x "$root/bin/launch"
echo 'root:x:0:0:root:/:/bin/sh' > "$root/etc/passwd"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"
# The class-data archive is valid for this very class path, order included.
find "$root/opt/kafka/libs" -name '*.jar' -printf '/opt/kafka/libs/%f\n' | sort | paste -sd: > "$root/etc/kafka/classpath"

cat > "$BUILD/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY rootfs /
ENV PATH=/bin:/opt/jre/bin
EXPOSE 9093
CMD ["/bin/launch"]
DOCKERFILE
docker build -q -t "$tag-untrained" "$BUILD"

container=verdict-worker-kafka-training
docker rm -f "$container" 2>/dev/null || true # of a build that was killed
docker run -d --name "$container" "$tag-untrained" /bin/sh /bin/train.sh
trap 'docker logs "$container"; docker rm -f "$container"; docker rmi "$tag-untrained"' EXIT
address=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' "$container")
for _ in $(seq 600); do
  if docker logs "$container" 2>&1 | grep -q 'Kafka Server started'; then break; fi
  sleep 0.1
done
"$PYTHON" "$here/train.py" "$address:9093"
docker stop -t 60 "$container"
docker inspect --format '{{.State.ExitCode}}' "$container" | grep -qx 0
docker commit --change 'CMD ["/bin/launch"]' "$container" "$tag"
