"""RetinaNet on digits in photographs, backbone of the digits pretraining at one width; fits a laptop.

python tools/dataset_converters/make_digit_scenes.py data/digit_scenes
python tools/train.py configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT

Result: box AP (%) on 60 scenes, one seed: 29.6 at width 1.0 and 18.8 at 0.5, as `make demo` printed at commit e8c739e,
after the 16 epochs of configs/digits/r18_1xb64-16e_digits.py. From random weights, by the command above with
`--cfg-options model.backbone.init_cfg=None`, at an earlier commit of the same day: 11.7 and 14.8.
"""

_base_ = ['../_base_/datasets/digit_scenes_coco.py', '../_base_/default_runtime.py']

default_scope = 'mmdet'
max_epochs = 10
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor'),
    backbone=dict(
        type='us3l_mm.SlimmableResNet_CIFAR',
        depth=18,
        stem_channels=16,
        base_channels=16,
        out_indices=(2, 3),  # strides 4 and 8
        width=1.0,  # this and neck.in_channels: set both by --width
        init_cfg=dict(type='Pretrained', checkpoint=None, prefix='backbone.'),
    ),
    neck=dict(type='FPN', in_channels=[64, 128], out_channels=32, num_outs=2),
    bbox_head=dict(
        type='RetinaHead',
        num_classes=10,
        in_channels=32,
        stacked_convs=1,
        feat_channels=32,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=2,
            scales_per_octave=2,
            ratios=[1.5],  # taller than wide, as digits are
            strides=[4, 8],
        ),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type='L1Loss', loss_weight=0.3),
    ),
    train_cfg=dict(
        assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
        sampler=dict(type='PseudoSampler'),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=200, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=20
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=10, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=60),
    dict(type='CosineAnnealingLR', T_max=max_epochs, by_epoch=True, convert_to_iter_based=True),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(base_batch_size=4)
default_hooks = dict(logger=dict(interval=60))
