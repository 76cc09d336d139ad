#!/usr/bin/env bash
# Builds the wheel, installs it in a fresh environment, and uses it from an empty folder: us3l, mmengine, mmpretrain, mim.
#
#   tools/dev/check_wheel.sh FOLDER     FOLDER is made anew, and takes 7 GB; 10 minutes on 2 cores
#
# PYTHON chooses the Python. STACK, the site-packages of an environment with everything but us3l_mm, is used instead of an
# installation of its own: a minute or two less, for work on this script.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
FOLDER=$(realpath "${1:?give a folder to make}")
[[ ! -e $FOLDER ]] || { echo "$FOLDER exists; give a folder to make" >&2; exit 2; }
export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore OMP_NUM_THREADS=1 MPLBACKEND=Agg
unset PYTHONPATH

say() { printf '\n=== %s\n' "$1"; }

say 'fresh environment, wheel and source archive'
mkdir -p "$FOLDER"/{source,empty}
git -C "$ROOT" ls-files -co --exclude-standard | tar -C "$ROOT" -cf - -T - | tar -C "$FOLDER/source" -xf -
"${PYTHON:-python3}" -m venv "$FOLDER/venv"
export PATH=$FOLDER/venv/bin:$PATH
pip install -q -c "$ROOT/requirements/constraints.txt" --upgrade pip setuptools
(cd "$FOLDER/source" && python setup.py -q sdist -d "$FOLDER/dist" && rm -rf ./*.egg-info) 2>/dev/null
# From the archive, so that it is seen to be whole.
pip wheel -q --no-deps --no-build-isolation -w "$FOLDER/dist" "$FOLDER"/dist/*.tar.gz
ls -l "$FOLDER/dist"
tar -tzf "$FOLDER"/dist/*.tar.gz | awk -F / 'NF > 2 {count[$2]++} END {for (name in count) print count[name], name}' | sort -k 2

if [[ -n ${STACK:-} ]]; then
    echo "$STACK" >"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/stack.pth"
    pip install -q --no-deps "$FOLDER"/dist/*.whl
else
    pip install -q -c "$ROOT/requirements/constraints.txt" "$(echo "$FOLDER"/dist/*.whl)[mminstall,detection,demo]"
fi
pip install -q openmim 'setuptools<82'

cd "$FOLDER/empty"
say 'us3l'
us3l --version
us3l --help
us3l configs us3l/r50

say 'mmengine and mmpretrain'
python - <<'END'
import us3l_mm
from mmengine.config import Config
from mmengine.hub import get_model
from mmpretrain import get_model as get_by_name, list_models

print(Config.fromstring("_base_ = 'us3l_mm::us3l/r50_8xb256.py'", '.py').model.type)
print(type(get_model('us3l_mm::digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py')).__name__)
print(len(list_models('*us3l*')), 'models;', type(get_by_name('us3l_mm_r18_1xb64-16e_digits')).__name__)
END

say 'mim search, train, test, run'
mim search us3l_mm --config us3l_mm_r18_1xb64-16e_digits
small=(--cfg-options model.backbone.base_channels=8 model.backbone.stem_channels=8 train_cfg.max_epochs=1)
mim train us3l_mm supervised_r18_1xb64-2e_digits.py --gpus 0 --work-dir mim "${small[@]}" | tail -n 3
mim test us3l_mm supervised_r18_1xb64-2e_digits.py --checkpoint mim/epoch_1.pth --gpus 0 --work-dir mim_test "${small[@]}" | tail -n 3
mim run us3l_mm analyze_widths us3l_mm::digits/r18_1xb64-16e_digits.py --widths 1.0 0.5 --no-latency | tail -n 8

say 'us3l train'
us3l train us3l_mm::digits/simclr_r18_1xb64-2e_digits.py --epochs 1 --batch-size 256 | tail -n 5

say 'us3l demo'
us3l demo | tail -n 12

say "all of it worked; remove $FOLDER"
