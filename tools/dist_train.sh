#!/usr/bin/env bash
# Train on several GPUs:       [PORT=29500] us3l dist-train CONFIG GPUS [arguments of train.py]
# ... of several machines:     NNODES=2 NODE_RANK=0 MASTER_ADDR=10.1.1.1 us3l dist-train CONFIG GPUS_PER_NODE
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2
TOOLS=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}" exec python -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "${@:3}"
