#!/bin/sh
# Firefox, without a window, with a new profile that trusts the CA: firefox.sh URL CA
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
certutil -N -d "sql:$folder" --empty-password
certutil -A -d "sql:$folder" -n ca -t C,, -i "$2"
HOME=$folder firefox-esr --headless --no-remote --profile "$folder" --screenshot "$folder/page.png" "$1"
