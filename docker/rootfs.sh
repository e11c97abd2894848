#!/bin/sh
# A root file system with Python, the agent and the libraries they load, and nothing else: no shell, no package manager.
#
#   docker/rootfs.sh VENV ROOT
#
# VENV is a virtual environment with the agent and its pinned dependencies (it is pruned and becomes /opt/kofagent), ROOT an empty
# directory. The Dockerfile and tests/helm/test_image.py run the same steps.
set -eu
venv=$1
root=$2
python=$(readlink -f "$venv/bin/python")
stdlib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

# what is only for installing, testing or another language (botocore loads its `docs`)
rm -rf "$site"/pip "$site"/pip-* "$site"/setuptools* "$site"/pkg_resources "$site"/_distutils_hack "$site"/distutils-precedence.pth
find "$site" -depth -type d \( -name tests -o -name test \) \
  ! -path '*/botocore/data/*' -exec rm -rf {} +
find "$site" \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.c' -o -name '*.h' -o -name '*.cc' \) -delete
# botocore is here for credentials: it asks STS and SSO, and signs
if [ -d "$site/botocore/data" ]; then
  find "$site/botocore/data" -mindepth 1 -maxdepth 1 -type d ! -name sts ! -name sso ! -name sso-oidc ! -name logs -exec rm -rf {} +
fi
find "$site" -depth -type d -name __pycache__ -exec rm -rf {} +

mkdir -p "$root/opt/kofagent" "$root/etc/ssl/certs" "$root/etc/kofagent/values" "$root/tmp" "$root/var/lib/otelcol/file_storage" \
  "$root/usr/share" "$root$prefix/bin" "$root$stdlib"
cp -a "$site" "$root/opt/kofagent/lib"

# Python: the program, its library and the part of the standard library that a server uses
cp -a "$python" "$root$prefix/bin/python$version"
ln -sf "python$version" "$root$prefix/bin/python3"
(cd "$stdlib" && find . \( -name __pycache__ -o -name site-packages -o -name dist-packages -o -path ./test -o -path ./idlelib -o -path ./tkinter \
  -o -path ./turtledemo -o -path ./ensurepip -o -path ./lib2to3 -o -path ./pydoc_data -o -name 'config-*' -o -name tests \
  -o -name '_tkinter*' -o -name '*.a' -o -name '_test*.so' \) -prune -o -type f -print) |
  (cd "$stdlib" && tar -cf - -T -) | tar -xf - -C "$root$stdlib"
mkdir -p "$root$stdlib/site-packages"

# every shared library that any of it loads, the loader, and name resolution
{
  echo "$python"
  find "$root$stdlib" "$root/opt/kofagent/lib" -name '*.so*' -type f
} | while read -r file; do ldd "$file" 2>/dev/null || true; done |
  sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' | sort -u |
  while read -r library; do
    case $library in "$root"*) continue;; esac
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
  done
for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2 libgcc_s.so.1; do
  found=$(ldconfig -p | sed -n "s/.*$library .*=> //p" | head -1)
  [ -z "$found" ] || { mkdir -p "$root$(dirname "$found")"; cp -L "$found" "$root$found"; }
done
cp -a /etc/ld.so.conf /etc/ld.so.conf.d "$root/etc/" 2>/dev/null || true
ldconfig -r "$root"

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
mkdir -p "$root/usr/lib/ssl" && ln -sf /etc/ssl/certs "$root/usr/lib/ssl/certs"
ln -sf certs/ca-certificates.crt "$root/etc/ssl/cert.pem"
ln -sf /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"
[ ! -d /usr/share/zoneinfo ] || cp -a /usr/share/zoneinfo "$root/usr/share/"
rm -rf "$root/usr/share/zoneinfo/right" "$root/usr/share/zoneinfo/posix"
# symbols for debuggers
if command -v strip >/dev/null; then
  find "$root" -type f \( -name '*.so' -o -name '*.so.*' -o -path "$root$prefix/bin/*" \) -exec strip --strip-unneeded {} + 2>/dev/null || true
fi

printf 'root:x:0:0:root:/:/sbin/nologin\nkofagent:x:65532:65532:kofagent:/:/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\nkofagent:x:65532:\n' > "$root/etc/group"
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
chmod 1777 "$root/tmp"
chown -R 65532:65532 "$root/var/lib/otelcol" 2>/dev/null || true
chmod 0775 "$root/var/lib/otelcol/file_storage"

# The program: isolated from PYTHONPATH, the working directory and a user's site-packages.
mkdir -p "$root/usr/local/bin"
cat > "$root/usr/local/bin/kofagent" <<EOF
#!$prefix/bin/python$version -I
import sys

sys.path.append("/opt/kofagent/lib")
from kofagent.cli.main import main

sys.exit(main())
EOF
chmod 0755 "$root/usr/local/bin/kofagent"

# bytecode that is right whatever time the files have: the file system is read-only when they run
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$root" "$root$stdlib" "$root/opt/kofagent/lib" >/dev/null || true
