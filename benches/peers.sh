#!/bin/sh
# Makes .venv-bench, where the programs live that benches/images.py, search.py and map.py compare fanfold with. Run it from anywhere.
set -eu
cd "$(dirname "$0")/.."
[ -x .venv-bench/bin/python ] || python3 -m venv .venv-bench
# torch first and by its exact version: what others ask for is then met, and no GPU build is fetched for them.
.venv-bench/bin/pip install --quiet "$(grep -o '^torch==[^ ]*' benches/requirements-peers.txt)"
.venv-bench/bin/pip install --quiet -r benches/requirements-peers.txt
.venv-bench/bin/pip list --format=freeze | grep -E '^(daft|faiss-cpu|fastembed|lancedb|onnxruntime|pacmap|ray|torch|umap-learn)=='
