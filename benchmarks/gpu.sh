#!/bin/sh
# Measure training and inference on a GPU, into the folder given, in at most four minutes:
#
#     benchmarks/gpu.sh out/gpu            # ResNet50 at 256 x 128, 32 clips of 6 frames
#     benchmarks/gpu.sh out/gpu small cpu  # tries the script where there is no GPU
#
# It needs Python with torch and torchvision, and the other packages of setup.cfg on PYTHONPATH. The table is printed,
# and FOLDER/training.json is written anew after each figure.
set -u
folder=${1:?"give the folder for training.json, as in: benchmarks/gpu.sh out/gpu"}
size=${2:-full}
device=${3:-cuda}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.." || exit 1
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv 2>/dev/null | tee "$folder/card.csv"
timeout 235 "${PYTHON:-python3}" -m scripts.benchmark.training "$folder" --device "$device" --size "$size" \
    --seconds 190 2>"$folder/errors.txt" | tee "$folder/table.txt"
tail -n 20 "$folder/errors.txt"
test -s "$folder/training.json"
