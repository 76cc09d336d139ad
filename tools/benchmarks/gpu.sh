#!/usr/bin/env bash
# All benchmarks that need a GPU, or those named: tables on the screen, numbers in a folder.
#   bash tools/benchmarks/gpu.sh [FOLDER [NAME ...]]      names: layers_r18, precision, ... as below
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$(realpath -m "${1:-work_dirs/benchmarks}")
mkdir -p "$out"
export PYTHONPATH=.:${PYTHONPATH:-}

only=" ${*:2} " ran=0 failed=0

run() { # name of the result, script, arguments
    [[ $only == '  ' || $only == *" $1 "* ]] || return 0
    ran=$((ran + 1))
    echo -e "\n## $1: python tools/benchmarks/$2.py ${*:3}"
    python "tools/benchmarks/$2.py" "${@:3}" --device cuda --out "$out/$1.json" || { echo "FAILED: $1"; failed=1; }
}

r50=(--config configs/us3l/r50_8xb256.py --batch 64 --side 224 --amp)
run layers_r18 layer_overhead --batch 256 --repeats 30
run layers_r50 layer_overhead --backbone us3l_mm.SlimmableResNet --depth 50 --side 224 --batch 64 --repeats 20
run layers_r50_fast layer_overhead --backbone us3l_mm.SlimmableResNet --depth 50 --side 224 --batch 64 --repeats 20 \
    --amp --channels-last
run step_r18 step_over_floor --batch 512 --repeats 20 --amp --channels-last
run step_r50 step_over_floor "${r50[@]}" --channels-last
run schedule schedule --batch 512 --iterations 200 --warmup 200 --amp --channels-last
run monitor_r18 monitor --batch 512 --repeats 20 --warmup 5 --amp --channels-last
run monitor_r50 monitor "${r50[@]}" --channels-last --classes 1000 --epoch 1281167
run memory_r18 memory --batch 512
run memory_r50 memory "${r50[@]}"
run precision precision --batch 512 --repeats 20 --steps 200 --moved 3
run compiled precision --batch 512 --repeats 20 --compile default
run cuda_graphs precision --batch 512 --repeats 20 --compile reduce-overhead
run views augmentation --images 10240 --workers 16
run dense dense_forward --batch 64
((ran)) || { echo "no benchmark is called${only% }; the names are in this file" >&2; failed=2; }
exit $failed
