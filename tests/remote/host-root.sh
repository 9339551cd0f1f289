# In a guest that was booted with -r and -d: a root directory like this machine's, for programs that are built
# or installed there. Sourced; `host_root DIR` makes it, `in_root DIR PROGRAM...` runs a program in it.
#
# It is the real one, read-only over 9p, below a file system on the guest's own disk, which takes all changes.
# The guest's kernel file systems and /share are bound into it.

host_root() {
    local root=$1 name
    modprobe -a overlay ext4 virtio_blk
    mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -O ^metadata_csum /dev/vda
    mkdir -p /run/disk "$root"
    mount -t ext4 -o noatime,nodelalloc /dev/vda /run/disk
    mkdir -p /run/disk/{upper,work,tmp}
    chmod 1777 /run/disk/tmp
    mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host
    mount -t overlay -o lowerdir=/host,upperdir=/run/disk/upper,workdir=/run/disk/work overlay "$root"
    mkdir -p "$root/share"
    for name in proc sys dev share; do mount --rbind "/$name" "$root/$name"; done
    # $REPOSITORY may lie where other directories are mounted now.
    mkdir -p /run/repository
    mount --bind "$root$REPOSITORY" /run/repository
    mount -t tmpfs run "$root/run"
    # Tests want a file system with direct I/O, and none that is stacked upon another.
    mount --bind /run/disk/tmp "$root/tmp"
    mount --bind /run/disk/tmp "$root/var/tmp"
    mkdir -p "$root$REPOSITORY"
    mount --bind /run/repository "$root$REPOSITORY"
}

in_root() {
    local root=$1
    shift
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 TMPDIR=/tmp "${ROOT_ENVIRONMENT[@]}" chroot "$root" "$@"
}
