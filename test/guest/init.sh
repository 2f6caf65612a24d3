#!/bin/busybox sh
# shellcheck shell=dash
# PID 1 of the guest's initrd. From the kernel's command line: DATA, where the second disk goes; CGROUP=2, mount cgroup2.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk failover net_failover virtio_net overlay; do
  insmod /modules/$module.ko
done
until [ -b /dev/vda ]; do sleep 0.1; done
# What is written to the root goes to memory.
mkdir /lower /upper
mount -t ext4 -o ro /dev/vda /lower
mount -t tmpfs upper /upper
mkdir /upper/data /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work root /root
mkdir /dev/shm /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t devpts pts /dev/pts
[ -b /dev/vdb ] && { mount -t ext4 /dev/vdb "/root$DATA" || echo "GUEST: the second disk cannot be mounted"; }
[ "$CGROUP" = 2 ] && mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
for point in proc sys dev; do mount --move /$point /root/$point; done
exec switch_root /root /guest-main
