#!/bin/sh
# Makes the NTFS volumes of the tests. As root, with ntfs-3g, attr and xz; run from the repository's root.
#
# mesa.ntfs.xz: the logs of mesa.py. traces.ntfs.xz: the files of traces.py, and one of Prefetch that was deleted.
# unread.ntfs.xz: Setup.evtx, 40 records; and files that cannot be read: by CompactOS, Data Deduplication or EFS.
# windows.ntfs.xz:
#   Windows/System32/winevt/Logs/      Security, System and a third log, as event_logs.COUNTS has them
#   Windows/System32/winevt/Logs/      Setup.evtx, 40 records, deleted
#   gone/archive/Old.evtx              250 records, deleted together with its folders
#   packed/Packed.evtx                 80 records, in a compressed folder
#   pieces/Pieces.evtx                 120 records, in many pieces
#   nothing.evtx                       empty
set -eu
here=tests/evidence/volumes
work=$(mktemp -d)
PYTHONPATH=tests .venv/bin/python - "$work/logs" <<'PYTHON'
import sys
from pathlib import Path
from event_logs import COUNTS, events, write_log

for name, count in {**COUNTS, "Setup": 40, "Old": 250, "Packed": 80, "Pieces": 120}.items():
    write_log(Path(sys.argv[1]) / f"{name}.evtx", events(count, name), spare=1)
PYTHON
truncate -s 4M "$work/volume"
mkntfs -F -q -p 2048 -c 4096 -L OS "$work/volume"
mkdir "$work/at"
mounted() { ntfs-3g "$@" "$work/volume" "$work/at"; }

mounted -o compression
logs=$work/at/Windows/System32/winevt/Logs
mkdir -p "$logs" "$work/at/gone/archive" "$work/at/packed"
setfattr -h -v 0x00080000 -n system.ntfs_attrib "$work/at/packed"
cp "$work/logs/Packed.evtx" "$work/at/packed/"
cp "$work/logs/Old.evtx" "$work/at/gone/archive/"
mv "$work/logs/Packed.evtx" "$work/logs/Old.evtx" "$work/logs/Pieces.evtx" "$work"
cp "$work/logs/"* "$logs"
: > "$work/at/nothing.evtx"
echo "not a log" > "$work/at/notes.txt"
umount "$work/at"

mounted
mkdir "$work/at/filler" "$work/at/pieces"
number=0
while head -c 20480 /dev/zero > "$work/at/filler/$number" 2>/dev/null; do number=$((number + 1)); done
while [ $number -gt 0 ]; do number=$((number - 2)); rm -f "$work/at/filler/$number"; done
cp "$work/Pieces.evtx" "$work/at/pieces/"
rm -r "$work/at/filler"
umount "$work/at"

mounted
rm -r "$logs/Setup.evtx" "$work/at/gone"
umount "$work/at"

xz -9e -c "$work/volume" > "$here/windows.ntfs.xz"

mkntfs -F -q -p 2048 -c 4096 -L OS "$work/volume"
mounted
mkdir -p "$logs"
PYTHONPATH=tests .venv/bin/python tests/evidence/mesa.py "$logs"
umount "$work/at"
xz -9e -c "$work/volume" > "$here/mesa.ntfs.xz"

mkntfs -F -q -p 2048 -c 4096 -L OS "$work/volume"
mounted
PYTHONPATH=tests .venv/bin/python tests/evidence/traces.py "$work/at"
umount "$work/at"
mounted
rm "$work/at/Windows/Prefetch/GONE.EXE-07476F82.pf"
umount "$work/at"
xz -9e -c "$work/volume" > "$here/traces.ntfs.xz"

mkntfs -F -q -p 2048 -c 4096 -L OS "$work/volume"
mounted -o streams_interface=windows,efs_raw
mkdir -p "$logs" "$work/at/Windows/System32/config"
reparse() { setfattr -h -n system.ntfs_reparse_data -v "$2" "$1"; }
packed() {
    truncate -s 69632 "$1"
    head -c 5000 /dev/urandom > "$1:WofCompressedData"
    reparse "$1" 0x170000801000000001000000020000000100000000000000
}
cp "$work/logs/Setup.evtx" "$logs/"
packed "$logs/Packed.evtx"
packed "$work/at/Windows/System32/config/SYSTEM"
truncate -s 69632 "$logs/Deduplicated.evtx"
reparse "$logs/Deduplicated.evtx" 0x130000801000000001000000020000000100000000000000
head -c 8192 /dev/urandom > "$logs/Secret.evtx"
# Without a certificate, ntfs-3g writes the attribute $EFS, and then fails.
setfattr -h -n system.ntfs_efsinfo -v "0x58020000$(printf '00%.0s' $(seq 596))" "$logs/Secret.evtx" 2>/dev/null || true
umount "$work/at"
xz -9e -c "$work/volume" > "$here/unread.ntfs.xz"
rm -r "$work"
