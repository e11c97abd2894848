#!/bin/sh
# A root file system with Python, the agent and the libraries they load, and nothing else: no shell, no package manager.
#
#   docker/rootfs.sh VENV ROOT
#
# VENV is a virtual environment with the agent and everything of requirements.lock (it is pruned and becomes /opt/kofagent), ROOT an
# empty directory. The Dockerfile and tests/helm/test_image.py run the same steps; needs root and Debian. The same VENV gives the same
# bytes: files are dated SOURCE_DATE_EPOCH (default 0).
#
# Plain sh has no pipefail: what may fail writes to a file, and is no part of a pipe.
set -eu
venv=$1
root=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "rootfs.sh: $*" >&2
  exit 1
}
python=$(readlink -f "$venv/bin/python")
stdlib=$("$python" -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ -d "$site/kofagent" ] || fail "the agent is not installed in $venv"

# what is only for building, installing, testing or another language (botocore loads its `docs`)
"$venv/bin/python" -m pip uninstall -q -y hatchling packaging pathspec pluggy tomlkit trove-classifiers
"$venv/bin/python" -m pip check
rm -rf "$site"/pip "$site"/pip-* "$site"/setuptools* "$site"/pkg_resources "$site"/_distutils_hack "$site"/distutils-precedence.pth
find "$site" -depth -type d \( -name tests -o -name test \) \
  ! -path '*/botocore/data/*' -exec rm -rf {} +
find "$site" \( -name '*.pyi' -o -name '*.pxd' -o -name '*.pyx' -o -name '*.c' -o -name '*.h' -o -name '*.cc' \) -delete
# names, versions and licences stay for those who list what is in an image; lists of files are no longer true
find "$site" -path '*.dist-info/*' \( -name RECORD -o -name INSTALLER -o -name REQUESTED -o -name direct_url.json \) -delete
# botocore is here for credentials: it asks STS and SSO, and signs
find "$site/botocore/data" -mindepth 1 -maxdepth 1 -type d ! -name sts ! -name sso ! -name sso-oidc ! -name logs -exec rm -rf {} +
find "$site" -depth -type d -name __pycache__ -exec rm -rf {} +

mkdir -p "$root/opt/kofagent" "$root/etc/ssl/certs" "$root/etc/kofagent/values" "$root/tmp" "$root/var/lib/otelcol/file_storage" \
  "$root/usr/share" "$root/usr/lib/ssl" "$root/usr/local/bin" "$root$prefix/bin" "$root$stdlib"
cp -a "$site" "$root/opt/kofagent/lib"

# Python: the program, its library and the part of the standard library that a server uses
cp -a "$python" "$root$prefix/bin/python$version"
ln -sf "python$version" "$root$prefix/bin/python3"
(cd "$stdlib" && find . \( -name __pycache__ -o -name site-packages -o -name dist-packages -o -path ./test -o -path ./idlelib \
  -o -path ./tkinter -o -path ./turtledemo -o -path ./ensurepip -o -path ./lib2to3 -o -path ./pydoc_data -o -name 'config-*' \
  -o -name tests -o -name '*.a' -o -path './lib-dynload/_test*' -o -path './lib-dynload/_tkinter*' -o -path './lib-dynload/_curses*' \
  -o -path './lib-dynload/readline*' -o -path './lib-dynload/_dbm*' -o -path './lib-dynload/_gdbm*' \) -prune -o -type f -print) > "$work/stdlib"
tar -C "$stdlib" -cf "$work/stdlib.tar" -T "$work/stdlib"
tar -C "$root$stdlib" -xf "$work/stdlib.tar"
mkdir -p "$root$stdlib/site-packages"

# every shared library that any of it loads and the loader, then what is only loaded when a name is resolved or a thread ends
find "$root$stdlib" "$root/opt/kofagent/lib" -name '*.so*' -type f > "$work/objects"
echo "$python" >> "$work/objects"
while read -r file; do
  ldd "$file" > "$work/ldd" 2>&1 || fail "ldd $file: $(cat "$work/ldd")"
  ! grep 'not found' "$work/ldd" >&2 || fail "$file cannot be loaded"
  sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*ld-linux[^ ]*\) .*/\1/p' "$work/ldd" >> "$work/loaded"
done < "$work/objects"
ldconfig -p > "$work/known"
for library in libresolv.so.2 libgcc_s.so.1 libnss_files.so.2 libnss_dns.so.2; do
  found=$(sed -n "s/^[[:space:]]*$library .*=> //p" "$work/known")
  [ -n "$found" ] || fail "no $library here"
  echo "$found" >> "$work/loaded"
done
sort -u "$work/loaded" > "$work/libraries"
while read -r library; do
  case $library in "$root"/*) continue ;; esac # a wheel's own
  mkdir -p "$root$(dirname "$library")"
  cp -L "$library" "$root$library"
  echo "$library" >> "$work/system"
done < "$work/libraries"
cp -a /etc/ld.so.conf /etc/ld.so.conf.d "$root/etc/"
ldconfig -X -r "$root"
rm -rf "$root/var/cache/ldconfig"

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
ln -sf /etc/ssl/certs "$root/usr/lib/ssl/certs"
ln -sf certs/ca-certificates.crt "$root/etc/ssl/cert.pem"
ln -sf /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"
cp -a /usr/share/zoneinfo "$root/usr/share/"
rm -rf "$root/usr/share/zoneinfo/right" "$root/usr/share/zoneinfo/posix"

# Debian's packages that these files are of, where scanners look for them in images without a package manager, and their licences
mkdir -p "$root/var/lib/dpkg/status.d"
cp -L /etc/os-release "$root/etc/os-release"
while read -r library; do
  real=$(readlink -f "$library")
  # a package's list has /usr/lib or, in older Debians, /lib; Python's own library is of no package
  dpkg -S "$real" > "$work/owner" 2>/dev/null || dpkg -S "${real#/usr}" > "$work/owner" 2>/dev/null || continue
  sed 's/: .*//' "$work/owner" >> "$work/packages"
done < "$work/system"
printf 'ca-certificates\ntzdata\n' >> "$work/packages"
sort -u "$work/packages" > "$work/names"
while read -r package; do
  name=${package%%:*}
  dpkg-query -s "$package" > "$root/var/lib/dpkg/status.d/$name"
  mkdir -p "$root/usr/share/doc/$name"
  cp -L "/usr/share/doc/$name/copyright" "$root/usr/share/doc/$name/copyright"
done < "$work/names"

# symbols for debuggers
find "$root" -type f ! -path "$root/etc/*" \( -name '*.so' -o -name '*.so.*' -o -path "$root$prefix/bin/*" \) -exec strip --strip-unneeded {} +

printf 'root:x:0:0:root:/:/sbin/nologin\nkofagent:x:65532:65532:kofagent:/:/sbin/nologin\n' > "$root/etc/passwd"
printf 'root:x:0:\nkofagent:x:65532:\n' > "$root/etc/group"
printf 'hosts: files dns\n' > "$root/etc/nsswitch.conf"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts" # bare runtimes bring none; the agent listens on localhost
chmod 1777 "$root/tmp"
chown -R 65532:65532 "$root/var/lib/otelcol"
chmod 0775 "$root/var/lib/otelcol/file_storage"

# The program: isolated from PYTHONPATH, the working directory and a user's site-packages.
cat > "$root/usr/local/bin/kofagent" <<PROGRAM
#!$prefix/bin/python$version -I
import sys

sys.path.append("/opt/kofagent/lib")
from kofagent.cli.main import main

sys.exit(main())
PROGRAM
chmod 0755 "$root/usr/local/bin/kofagent"

# bytecode that is right whatever time the files have: the file system is read-only when they run
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$root" -p / "$root$stdlib" "$root/opt/kofagent/lib"

find "$root" -perm /6000 -type f > "$work/setuid"
[ ! -s "$work/setuid" ] || fail "setuid: $(cat "$work/setuid")"
find "$root" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
