"""US3L ResNet-50 on ImageNet, 100 epochs, 4,096 images an iteration: LARS with BYOL's settings for 100 epochs.

Norms and biases have no layer-wise rate. All weights have the group regularisation in place of the decay of 1e-6.

GPUS=32 bash tools/slurm_train.sh PARTITION JOB_NAME configs/us3l/r50_32xb128-lars.py WORK_DIR --amp
On 8 GPUs, with the memory of 128 images: bash tools/dist_train.sh configs/us3l/r50_32xb128-lars.py 8 --amp \
    --cfg-options train_dataloader.batch_size=512 model.micro_batches=4
32 GPUs of 128 images. Result: not run yet.
"""

_base_ = ['./r50_8xb60.py', '../_base_/schedules/warmup_cosine.py']

max_epochs, warmup_epochs = 100, 10
model = dict(group_reg=dict(coefficient=0.5 * 1e-6))
train_dataloader = dict(batch_size=128)
optim_wrapper = dict(
    optimizer=dict(type='LARS', lr=0.45 * 4096 / 256),
    paramwise_cfg=dict(
        custom_keys={
            'bn': dict(lars_exclude=True),
            'bias': dict(lars_exclude=True),
            'downsample.1': dict(lars_exclude=True),  # batch norm of a shortcut
        }
    ),
)
param_scheduler = [
    dict(_base_.warmup, end=warmup_epochs),
    dict(_base_.cosine, begin=warmup_epochs, end=max_epochs, T_max=max_epochs - warmup_epochs),
]
auto_scale_lr = dict(base_batch_size=32 * 128)
