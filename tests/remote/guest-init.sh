#!/bin/sh
# The first process of a guest: network, shared directory, sshd, then the script of this node.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=1777 tmp /dev/shm
ln -sfn /proc/self/fd /dev/fd
mount -t tmpfs run /run
mkdir -p /run/sshd /run/lock
[ -e /etc/mtab ] || ln -s /proc/self/mounts /etc/mtab
for word in $(cat /proc/cmdline); do
    case $word in
        vm.*=*) name=${word%%=*}; eval "VM_${name#vm.}=\${word#*=}" ;;
    esac
done
hostname "$VM_node"
echo "$VM_node" >/etc/hostname
modprobe -a virtio_pci virtio_net virtio_blk virtio_rng 9p 9pnet_virtio configfs fuse 2>/dev/null
# As udev would.
chmod 666 /dev/fuse
mount -t configfs configfs /sys/kernel/config
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none share /share || echo "init: no share"
echo 127.0.0.1 localhost >/etc/hosts
cat /share/.vm/hosts >>/etc/hosts
# NVMe hosts tell each other apart by these two.
mkdir -p /etc/nvme
uuid=00000000-0000-4000-8000-00000000000$VM_idx
echo "$uuid" >/etc/nvme/hostid
echo "nqn.2014-08.org.nvmexpress:uuid:$uuid" >/etc/nvme/hostnqn
ip link set lo up
ip link set eth0 up
ip addr add "$VM_ip/24" dev eth0
/usr/sbin/sshd
export VM_NODE="$VM_node" VM_IP="$VM_ip"
[ ! -e /share/.vm/environment ] || . /share/.vm/environment
cut -d' ' -f1 /proc/uptime >"/share/.vm/$VM_node.ready"
cd /share
setsid bash "/share/.vm/$VM_node.sh" >"/share/.vm/$VM_node.log" 2>&1 </dev/null
echo $? >"/share/.vm/$VM_node.rc"
# Up until the runner ends this machine.
while :; do sleep 3600; done
