#!/usr/bin/env bash
# build.sh TAG: this machine's Python and the libraries that it is linked to, FROM scratch: no shell, no pip, no compiler.
# Stands in for the base image that the worker's Dockerfile takes from a registry.  Needs docker; BUILD is the folder to
# build in, PYTHON any Python of the installation that is copied.
set -euo pipefail
tag=$1
root=$BUILD/rootfs
base=$("$PYTHON" -c 'import sys, sysconfig; print(sys.base_prefix)')
version=$("$PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

rm -rf "$root"
mkdir -p "$root"/{etc/ssl/certs,root,tmp} "$root/usr/local"/{bin,lib}
chmod 1777 "$root/tmp"
cp -L "$base/bin/$version" "$root/usr/local/bin/$version"
ln -s "$version" "$root/usr/local/bin/python3"
ln -s "$version" "$root/usr/local/bin/python"
tar -C "$base/lib" --exclude=site-packages --exclude=dist-packages --exclude=test --exclude=tests --exclude=idlelib \
  --exclude=lib2to3 --exclude=tkinter --exclude=turtledemo --exclude=ensurepip --exclude='config-*' \
  --exclude=EXTERNALLY-MANAGED --exclude='_tkinter*' --exclude='_test*' --exclude='*.pyc' -c "$version" |
  tar -C "$root/usr/local/lib" -x

# What Python and its modules are linked to, and what wheels may expect of a system besides.
{ find "$root/usr/local" -name '*.so'; echo "$root/usr/local/bin/$version"; } |
  xargs -n1 env LD_LIBRARY_PATH="$base/lib" ldd | grep -o '/[^ ]*' > "$BUILD/libraries"
common='libgcc_s\.so\.1|libstdc\+\+\.so\.6|lib(dl|m|pthread|resolv|rt|util)\.so\.[0-9]'
ldconfig -p | grep -oE "/[^ ]*/($common)\$" >> "$BUILD/libraries"
grep -v "^$root" "$BUILD/libraries" | sort -u | while read -r library; do
  case $library in
    "$base"/*) cp -L "$library" "$root/usr/local/lib/" ;;
    *)
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
      ;;
  esac
done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'root:x:0:0:root:/root:/sbin/nologin' > "$root/etc/passwd"
echo 'hosts: files dns' > "$root/etc/nsswitch.conf"

cat > "$BUILD/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY rootfs /
ENV PATH=/usr/local/bin LD_LIBRARY_PATH=/usr/local/lib LANG=C.UTF-8
CMD ["python"]
DOCKERFILE
docker build -q -t "$tag" "$BUILD"
docker run --rm --network none "$tag" python -c 'import ctypes, lzma, sqlite3, ssl, venv'
