"""US-Net with SimCLR, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digits/us-simclr_r18_1xb128-16e_digitphotos.py
A CPU is enough. Result: docs/comparison.md.
"""

_base_ = ['../_base_/models/us_simclr.py', '../_base_/digit_photos_16e.py']

model = dict(**_base_.net)
