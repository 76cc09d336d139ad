"""S-Net with SimSiam and in-place distillation, ResNet-18 on CIFAR-100, 400 epochs: four widths in one run.

bash tools/dist_train.sh configs/baselines/snet-simsiam-distill_r18_4xb128-400e_cifar100.py 4
4 GPUs of 128 images. Result: not run yet.
"""

_base_ = './snet-simsiam_r18_4xb128-400e_cifar100.py'

model = dict(distill_loss=dict(_delete_=True, type='CosineSimilarityLoss'))
