"""S-Net with SimSiam and in-place distillation, ResNet-18 of 16 base channels on scikit-learn's digits.

python tools/train.py configs/digits/snet-simsiam-distill_r18_1xb64-2e_digits.py
A CPU is enough. Result: not run yet.
"""

_base_ = './snet-simsiam_r18_1xb64-2e_digits.py'

model = dict(distill_loss=dict(_delete_=True, type='CosineSimilarityLoss'))
