"""MoCo v3 for a ViT-Tiny of one width, which narrows the linear layers of its blocks; batch norm synchronised."""

_base_ = './mocov3.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='us3l_mm.SlimmableVisionTransformer',
        arch='tiny',
        width=1.0,
        img_size=224,
        stop_grad_conv1=True,
    ),
    neck=dict(in_channels=192, with_avg_pool=False),
)
sync_bn = 'torch'  # batch norm is in the heads only
