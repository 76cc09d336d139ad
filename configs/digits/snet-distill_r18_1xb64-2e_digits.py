"""Supervised S-Net ResNet-18 with in-place distillation, 16 base channels, on scikit-learn's digits.

python tools/train.py configs/digits/snet-distill_r18_1xb64-2e_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = './snet_r18_1xb64-2e_digits.py'

model = dict(distill=True)
