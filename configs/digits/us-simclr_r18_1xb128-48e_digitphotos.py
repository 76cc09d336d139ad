"""US-Net with SimCLR, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digits/us-simclr_r18_1xb128-48e_digitphotos.py
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/us_simclr.py', '../_base_/digit_photos_48e.py']

model = dict(**_base_.net)
