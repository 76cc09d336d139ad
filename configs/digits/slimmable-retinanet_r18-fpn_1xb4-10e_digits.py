"""RetinaNet for all widths at once on digits in photographs; fits a laptop.

python tools/dataset_converters/make_digit_scenes.py data/digit_scenes
python tools/train.py configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py \
    --cfg-options model.backbone.init_cfg.checkpoint=CHECKPOINT_OF_THE_PRETRAINING
python tools/calibrate_bn.py configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py CHECKPOINT
python tools/test.py configs/digits/slimmable-retinanet_r18-fpn_1xb4-10e_digits.py CALIBRATED_CHECKPOINT \
    --widths 1.0 0.75 0.5 0.25
From random weights: --cfg-options model.backbone.init_cfg=None

Result: box AP (%) on 60 scenes, one seed: 21.9, 20.6, 17.9 and 15.8 at widths 1.0, 0.75, 0.5 and 0.25, from the pretraining of
`make demo`; docs/slimmable_detection.md compares options.
"""

_base_ = './retinanet_r18-fpn_1xb4-10e_digits.py'

model = dict(
    type='us3l_mm.SlimmableDetector',
    detector='RetinaNet',
    backbone=dict(width=None),
    neck=dict(conv_cfg=dict(type='us3l_mm.SlimmableConv2d', slim_out=False)),  # reads narrow, gives all channels
    sampler=dict(dynamic=False),  # the sandwich rule from the start
    distill=dict(feature=0.1, cls=0.1, box=0.1),
)
val_dataloader = val_evaluator = val_cfg = None  # batch norm has no statistics before it is calibrated
