"""RetinaNet on digits in photographs, backbone of the digits pretraining at one width; fits a laptop.

python tools/dataset_converters/make_digit_scenes.py data/digit_scenes
python tools/train.py configs/digits/retinanet_r18-fpn_1xb4-10e_digits.py --width 0.5 \
    --cfg-options model.backbone.init_cfg.checkpoint=CALIBRATED_CHECKPOINT

Result: box AP (%) on 60 scenes, one seed: 29.6 and 18.8 at widths 1.0 and 0.5, as `make demo` printed at commit e8c739e,
after the 16 epochs of configs/digits/r18_1xb64-16e_digits.py. From random weights, by the command above with
`--cfg-options model.backbone.init_cfg=None`, at an earlier commit of the same day: 11.7 and 14.8.
"""

_base_ = [
    '../_base_/models/det_retinanet_r18_digits.py',
    '../_base_/datasets/digit_scenes_coco.py',
    '../_base_/default_runtime.py',
]

default_scope = 'mmdet'
model = dict(data_preprocessor=_base_.digit_pixels)  # in the model itself, for mmdet's inferencer too
max_epochs = 10
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
default_hooks = dict(logger=dict(interval=60), visualization=dict(type='DetVisualizationHook'))
visualizer = dict(type='DetLocalVisualizer', name='visualizer')
