"""US3L ViT-Tiny on CIFAR-10 at 224 pixels, 300 epochs: the paper's recipe on 4 GPUs.

bash tools/dist_train.sh configs/us3l/vit-tiny_4xb128-300e_cifar10.py 4
Result: not run yet.
"""

_base_ = [
    '../_base_/models/us3l_vit.py',
    '../_base_/datasets/cifar10-224_us3l.py',
    '../_base_/default_runtime.py',
]

max_epochs, warmup_epochs = 300, 40
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.5e-4 * 512 / 256, weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-4, by_epoch=True, end=warmup_epochs, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=max_epochs - warmup_epochs,
        by_epoch=True,
        begin=warmup_epochs,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs)
auto_scale_lr = dict(base_batch_size=4 * 128)
