#!/usr/bin/env bash
# build.sh TAG: an S3 server with atomic conditional PUTs (versitygw on a folder), FROM scratch. Needs go and docker.
# BUILD is the folder to build in. Versions before 1.8.0 lose updates.
set -euo pipefail
tag=$1
image=$BUILD/image
mkdir -p "$image/data"
touch "$image/data/.keep" # an empty folder is not copied

CGO_ENABLED=0 GOBIN="$image" GOFLAGS="-trimpath -buildvcs=false" \
  nice go install -ldflags "-s -w" github.com/versity/versitygw/cmd/versitygw@v1.8.0

cat > "$image/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY versitygw /versitygw
COPY data /data
ENV ROOT_ACCESS_KEY=testaccess ROOT_SECRET_KEY=testsecret123
ENV VGW_PORT=:7070 VGW_HEALTH=/healthz VGW_KEEP_ALIVE=true VGW_QUIET=true VGW_DISABLE_OTMP=true
EXPOSE 7070
ENTRYPOINT ["/versitygw"]
CMD ["posix", "/data"]
DOCKERFILE
docker build -q -t "$tag" "$image"
