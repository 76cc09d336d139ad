"""SimCLR for one width, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digits/simclr_r18_1xb128-48e_digitphotos.py --width 0.5
A CPU is enough. Result: not run yet.
"""

_base_ = ['../_base_/models/simclr.py', '../_base_/digit_photos_48e.py']

model = dict(**_base_.net)
