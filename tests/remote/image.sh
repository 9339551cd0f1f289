#!/usr/bin/env bash
# A bootable kernel and initramfs for the tests in virtual machines, from Debian packages only, without
# touching how this machine boots:  image.sh [SUITE]
#
# SUITE is where the kernel comes from: trixie (default; 6.12: FUSE passthrough) or bookworm (6.1: none).
# The programs are those of this machine's own Debian release, so that a program built here finds the
# same C library there. `tlshd` alone is SUITE's own, where that has it, with its libraries in a directory
# of its own. Prints the directory of vmlinux (plain ELF, boots by PVH), initrd.cpio and
# VERSION: in $SPEEDLOADER_VM_CACHE, else below ~/.cache. An image that is there is not built again
# while this script and guest-init.sh are as they were. Needs apt, dpkg, cpio, xz and python3.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
suite=${1:-trixie}
cache=${SPEEDLOADER_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/speedloader-vm}/$suite
export PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$cache"
exec 8>"$cache/lock"
flock 8
key=$(cat "$here/image.sh" "$here/guest-init.sh" | sha256sum)
if [ "$(cat "$cache/key" 2>/dev/null)" = "$key" ]; then
    echo "$cache"
    exit
fi
rm -f "$cache/key"
stage=$cache/stage root=$cache/root apt=$cache/apt

# Modules that a guest can load (what they depend on comes along).
modules=(virtio_pci virtio_net virtio_blk virtio_rng 9p 9pnet_virtio
    nvmet nvmet-tcp nvmet-rdma nvme-fabrics nvme-tcp nvme-rdma
    rdma_rxe crc32_generic crc32-pclmul rdma_ucm ib_uverbs brd xfs ext4 crc32c_generic
    crc32c_intel fuse overlay configfs loop
    nvme-keyring tls gcm ctr ghash-generic aesni_intel ghash-clmulni-intel)
# Packages all of whose programs go into the guest.
packages=(bash coreutils util-linux util-linux-extra mount kmod iproute2 procps nvme-cli xfsprogs
    e2fsprogs openssh-client openssh-server fuse3 gawk)
# But for those that are large and not needed.
skip='/(xfs_(db|repair|scrub|copy|logprint|mdrestore)|debugfs|e2fsck|fsck.*|e4crypt|bashbug|resize2fs|dumpe2fs|cfdisk|sfdisk|fdisk|dcb|devlink|bridge|tipc|vdpa|rtacct|lnstat|arpd|gawkbug)$'

say() { printf 'image: %s\n' "$*" >&2; }

# --- apt with a state of its own, so that this machine's is left as it is

mkdir -p "$apt"/{lists/partial,archives/partial,tls/partial,parts}
: >"$apt/status"
apt_options=(-qq -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache::archives=$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User=root -o Dir::Etc::preferencesparts=/dev/null -o Dir::Etc::preferences=/dev/null)
# The first Debian mirror of this machine: deb822 or classic.
mirror=$({ cat /etc/apt/sources.list.d/*.sources /etc/apt/sources.list 2>/dev/null || true; } |
    awk '!u && $1=="URIs:" {u=$2} !u && $1=="deb" {for (i=2; i<=NF; i++) if ($i ~ /^https?:/) u=$i} END {print u}')
[ -n "$mirror" ] || { say "no Debian mirror found in /etc/apt"; exit 1; }
own_suite=$(. /etc/os-release && echo "$VERSION_CODENAME")

apt_of() { # SUITE PROGRAM ARGUMENT...: apt that knows only this suite
    local from=$1 program=$2
    shift 2
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
        "$mirror" "$from" >"$apt/$from.list"
    "$program" "${apt_options[@]}" -o "Dir::Etc::sourcelist=$apt/$from.list" \
        -o "Dir::Etc::sourceparts=$apt/parts" "$@"
}

say "kernel of $suite, programs of $own_suite"
rm -rf "$stage" "$root"
mkdir -p "$stage"/{kernel,user,tls} "$root"
apt_of "$suite" apt-get update >&2
kernel_package=$(apt_of "$suite" apt-cache depends linux-image-amd64 |
    awk '$1=="Depends:" && $2 ~ /^linux-image-/ {p=$2} END {print p}')
(cd "$apt/archives" && apt_of "$suite" apt-get download "$kernel_package" >&2)
# Debian 13 is the first that has it.
if apt_of "$suite" apt-cache show ktls-utils >/dev/null 2>&1; then
    apt_of "$suite" apt-get -y --no-install-recommends --download-only -o "Dir::Cache::archives=$apt/tls" \
        install ktls-utils >&2
    for package in "$apt"/tls/*.deb; do dpkg -x "$package" "$stage/tls"; done
fi
apt_of "$own_suite" apt-get update >&2
apt_of "$own_suite" apt-get -y --no-install-recommends --download-only install \
    busybox-static "${packages[@]}" >&2

for package in "$apt/archives/${kernel_package}"_*.deb; do dpkg -x "$package" "$stage/kernel"; done
for package in "$apt"/archives/*.deb; do
    case ${package##*/} in linux-image-*) ;; *) dpkg -x "$package" "$stage/user" ;; esac
done
version=$(basename "$stage"/kernel/boot/vmlinuz-*)
version=${version#vmlinuz-}
say "kernel $version"

# The plain kernel: an emulated processor would take seconds to unpack it by itself.
python3 - "$stage/kernel/boot/vmlinuz-$version" "$cache/vmlinux" <<'PY'
import lzma, subprocess, sys
d = open(sys.argv[1], "rb").read()
for magic, tool in ((b"\xfd7zXZ\0", None), (b"\x28\xb5\x2f\xfd", ["zstd", "-dc"]),
                    (b"\x02\x21\x4c\x18", ["lz4", "-dc"]), (b"\x1f\x8b\x08", ["gzip", "-dc"])):
    at = d.find(magic)
    while at >= 0:
        if tool is None:
            try: out = lzma.LZMADecompressor().decompress(d[at:])
            except lzma.LZMAError: out = b""
        else:
            out = subprocess.run(tool, input=d[at:], capture_output=True).stdout
        if out[:4] == b"\x7fELF":
            open(sys.argv[2], "wb").write(out); sys.exit(0)
        at = d.find(magic, at + 1)
sys.exit("no ELF kernel found in the image")
PY

# --- programs, with the shared libraries that they name, found by the loader that comes with them

user=$stage/user
libraries=$user/lib/x86_64-linux-gnu:$user/usr/lib/x86_64-linux-gnu
loader=$(ls "$user"/lib64/ld-linux-x86-64.so.2 "$user"/usr/lib64/ld-linux-x86-64.so.2 2>/dev/null || true)
loader=${loader%%$'\n'*}
staged() { local program=$1; shift; "$loader" --library-path "$libraries" "$program" "$@"; }
mkdir -p "$root"/{bin,dev,etc/ssh,lib64,proc,root/.ssh,run,share,host,sys,tmp,mnt,var/empty,var/log,usr/lib}
for name in sbin usr/bin usr/sbin; do
    ln -sfn "$([ "$name" = sbin ] && echo bin || echo ../bin)" "$root/$name"
done
mkdir -p "$root/lib/x86_64-linux-gnu"
ln -sfn ../../lib/x86_64-linux-gnu "$root/usr/lib/x86_64-linux-gnu"

programs=$(for package in "${packages[@]}"; do
    for file in "$apt/archives/${package}"_*.deb; do dpkg-deb --fsys-tarfile "$file" | tar t; done
done | grep -E '^\./(usr/)?s?bin/[^/]+$' | grep -vE "$skip")
for program in $programs; do
    # Not /sbin/ip -> /bin/ip: there both are one directory.
    [ -L "$user/$program" ] && [ "$(basename "$(readlink "$user/$program")")" = "${program##*/}" ] && continue
    cp -a "$user/$program" "$root/bin/"
done
for program in $programs; do
    [ -L "$user/$program" ] && continue
    staged --list "$user/$program" 2>/dev/null | awk '$3 ~ /^\// {print $3}' || true
done | sort -u | while read -r library; do cp -L "$library" "$root/lib/x86_64-linux-gnu/"; done
# Loaded at run time, so named by nobody.
cp -L "$user"/lib/x86_64-linux-gnu/libgcc_s.so.1 "$root/lib/x86_64-linux-gnu/"
cp -L "$loader" "$root/lib64/"
cp "$user/bin/busybox" "$root/bin/busybox"
for name in $("$root/bin/busybox" --list); do
    [ -e "$root/bin/$name" ] || [ -L "$root/bin/$name" ] || ln -s busybox "$root/bin/$name"
done
ln -sfn busybox "$root/bin/sh"
ln -sfn gawk "$root/bin/awk"

# --- tlshd, with the loader and libraries of its own suite

tlshd=$stage/tls/usr/sbin/tlshd
if [ -e "$tlshd" ]; then
    own=$root/opt/tlshd their=$stage/tls/usr/lib/x86_64-linux-gnu
    mkdir -p "$own"
    "$their/ld-linux-x86-64.so.2" --library-path "$their" --list "$tlshd" | awk '$3 ~ /^\// {print $3}' |
        while read -r library; do cp -L "$library" "$own/"; done
    cp -L "$their/ld-linux-x86-64.so.2" "$own/ld.so"
    # The name of its loader lies in the program: the process is called tlshd, as where it is installed.
    python3 - "$tlshd" "$own/tlshd" <<'PY'
import sys
was, now = b"/lib64/ld-linux-x86-64.so.2\0", b"/opt/tlshd/ld.so\0"
program = open(sys.argv[1], "rb").read()
assert program.count(was) == 1
open(sys.argv[2], "wb").write(program.replace(was, now.ljust(len(was), b"\0")))
PY
    printf '#!/bin/sh\nexec env LD_LIBRARY_PATH=/opt/tlshd /opt/tlshd/tlshd "$@"\n' >"$root/bin/tlshd"
    chmod 755 "$root/bin/tlshd" "$own/tlshd"
    printf '[debug]\nloglevel=1\ntls=0\nnl=0\n' >"$root/etc/tlshd.conf"
fi

# --- modules, unpacked

if [ ! -d "$stage/kernel/lib/modules" ]; then ln -sfn usr/lib "$stage/kernel/lib"; fi
kmod_as() { local name=$1; shift; "$loader" --argv0 "$name" --library-path "$libraries" "$user/bin/kmod" "$@"; }
kmod_as depmod -b "$stage/kernel" "$version"
for module in "${modules[@]}"; do
    kmod_as modprobe -d "$stage/kernel" -S "$version" --show-depends "$module" 2>/dev/null ||
        say "no module $module (built in or absent)"
done | awk '$1=="insmod" {print $2}' | sort -u | while read -r file; do
    to=$root/lib/modules/$version/${file#*"/$version/"}
    mkdir -p "${to%/*}"
    case $file in
        *.xz) xz -dc "$file" >"${to%.xz}" ;;
        *.zst) zstd -qdc "$file" >"${to%.zst}" ;;
        *) cp "$file" "$to" ;;
    esac
done
cp "$stage"/kernel/lib/modules/"$version"/modules.{builtin,order} "$root/lib/modules/$version/" 2>/dev/null || true
kmod_as depmod -b "$root" "$version"

# --- settings

cat >"$root/etc/passwd" <<'X'
root:x:0:0:root:/root:/bin/bash
sshd:x:100:65534:sshd:/run/sshd:/bin/false
nobody:x:65534:65534:nobody:/:/bin/false
X
printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
printf 'root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n' >"$root/etc/shadow"
printf 'passwd: files\ngroup: files\nshadow: files\nhosts: files\n' >"$root/etc/nsswitch.conf"
cat >"$root/etc/ssh/sshd_config" <<'X'
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
SetEnv PATH=/usr/sbin:/usr/bin:/sbin:/bin
X
# A throw-away pair of keys for root in every guest, made anew with each image; every guest's host key
# is known to the others, as an administrator would have seen to.
staged "$user/usr/bin/ssh-keygen" -q -t ed25519 -N '' -C test -f "$root/root/.ssh/id_ed25519"
staged "$user/usr/bin/ssh-keygen" -q -t ed25519 -N '' -C host -f "$root/etc/ssh/ssh_host_ed25519_key"
cp "$root/root/.ssh/id_ed25519.pub" "$root/root/.ssh/authorized_keys"
read -r kind public _ <"$root/etc/ssh/ssh_host_ed25519_key.pub"
printf '*,10.9.0.* %s %s\n' "$kind" "$public" >"$root/root/.ssh/known_hosts"
chmod 700 "$root/root" "$root/root/.ssh" "$root/var/empty"
chmod 600 "$root/root/.ssh/id_ed25519" "$root/etc/ssh/ssh_host_ed25519_key"
chmod 1777 "$root/tmp"
cp "$here/guest-init.sh" "$root/init"
chmod 755 "$root/init"

# Not compressed: unpacking costs the guest more than the bytes.
(cd "$root" && find . -print0 | LC_ALL=C sort -z |
    cpio --null -o -H newc -R 0:0 --quiet) >"$cache/initrd.cpio"
echo "$version" >"$cache/VERSION"
rm -rf "$stage" "$root" "$apt/archives" "$apt/tls"
echo "$key" >"$cache/key"
say "made: $(du -sh "$cache/vmlinux" "$cache/initrd.cpio" | tr '\n' ' ')"
echo "$cache"
