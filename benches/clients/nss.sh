#!/bin/sh
# NSS, by tstclnt: nss.sh HOST PORT CA
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
certutil -N -d "sql:$folder" --empty-password
certutil -A -d "sql:$folder" -n ca -t C,, -i "$3"
tstclnt -Q -h "$1" -p "$2" -a "$1" -d "sql:$folder"
