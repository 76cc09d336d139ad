"""SimCLR for one width, ResNet-18 of 16 base channels on digits in photographs.

python tools/train.py configs/digit_photos/simclr_r18_1xb64-20e_digit-photos.py --width 0.5
A CPU is enough. Result: configs/digit_photos/README.md.
"""

_base_ = ['../_base_/models/simclr.py', '../_base_/digit_photos_20e.py']

model = dict(**_base_.net)
