# PID 1 of a root file system's mount and process namespaces: scripts/lib/root.mjs starts it there. What it mounts nobody else
# sees, and when it ends, in whatever way, the kernel ends all that runs within and takes the mounts away: so it unmounts nothing.
#   sh root-enter.sh keep|forget ROOT EMPTY [HOW FROM TO]... -- COMMAND...
# forget: what is written goes to memory, over ROOT, and is gone with it. keep: into ROOT. EMPTY is a folder to mount on.
# HOW: read (TO is FROM, read-only), write (TO is FROM), copy (what is written to TO does not reach FROM), empty (TO is empty).
set -eu
writes=$1 root=$2 scratch=$3
shift 3

mount -t tmpfs -o mode=0755 tmpfs "$scratch"
all=$scratch/root
mkdir "$all"

# LOWER TARGET: a copy of one folder at another, as far as anybody who writes can see
overlay() {
    upper=$(mktemp -d "$scratch/upper.XXXXXX")
    work=$(mktemp -d "$scratch/work.XXXXXX")
    # Of the folder itself, the overlay has what the upper one has.
    chmod --reference="$1" "$upper"
    chown --reference="$1" "$upper"
    mount -t overlay -o "lowerdir=$1,upperdir=$upper,workdir=$work" overlay "$2"
}

if [ "$writes" = keep ]; then
    mount --bind "$root" "$all"
else
    overlay "$root" "$all"
fi

# FROM TO: one file or folder at another place, which is made
bind() {
    if [ -d "$1" ]; then
        mkdir -p "$2"
    else
        mkdir -p "$(dirname "$2")"
        [ -e "$2" ] || : >"$2"
    fi
    mount --bind "$1" "$2"
}

mount -t proc proc "$all/proc"
mount -t sysfs -o ro sysfs "$all/sys"
mount -t tmpfs -o mode=0755 tmpfs "$all/dev"
for name in null zero full random urandom tty; do bind "/dev/$name" "$all/dev/$name"; done
mkdir "$all/dev/pts" "$all/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$all/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$all/dev/shm"
ln -s pts/ptmx "$all/dev/ptmx"
ln -s /proc/self/fd "$all/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${number%%:*}" "$all/dev/${number#*:}"; done

# Names and addresses are this machine's.
for name in resolv.conf hosts; do
    [ -e "/etc/$name" ] || continue
    rm -f "$all/etc/$name"
    cat "/etc/$name" >"$all/etc/$name"
done

while [ "$1" != -- ]; do
    how=$1 from=$2 to=$all$3
    shift 3
    case $how in
    read)
        bind "$from" "$to"
        mount -o remount,bind,ro "$to"
        ;;
    write) bind "$from" "$to" ;;
    copy)
        mkdir -p "$to"
        overlay "$from" "$to"
        ;;
    empty)
        mkdir -p "$to"
        mount -t tmpfs -o mode=0755 tmpfs "$to"
        ;;
    esac
done
shift

# Not exec: the first process of a namespace must wait for all that others leave behind, and has no default signals.
status=0
chroot "$all" "$@" || status=$?
exit "$status"
