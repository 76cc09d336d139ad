"""S-Net with SimCLR, ResNet-18 of 16 base channels on scikit-learn's digits.

python tools/train.py configs/digits/snet-simclr_r18_1xb64-2e_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/snet_simclr.py', '../_base_/digits_2e.py']

model = dict(**_base_.net)
