"""US3L ResNet-50 on ImageNet, 100 epochs, 2,048 images an iteration, with a loader for few CPU cores.

The recipe is that of r50_8xb256.py. Its crops are cut by us3l_mm.LoadResizedCrops, and flips, colours and blur are made
on the GPU. Pixels differ by the resampling; see docs/data.md, "When decoding is the limit".

bash tools/dist_train.sh configs/us3l/r50_8xb256-fast.py 8 --amp bfloat16
8 GPUs of 256 images. Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_mse.py',
    '../_base_/datasets/imagenet_us3l_fast.py',
    '../_base_/schedules/imagenet_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(data_preprocessor=_base_.batched_views)
train_dataloader = dict(batch_size=256)
optim_wrapper = dict(optimizer=dict(lr=0.05 * (8 * 256) / (8 * 60)))
auto_scale_lr = dict(base_batch_size=8 * 256)
