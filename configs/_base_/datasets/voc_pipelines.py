"""Images in VOC's format: the short side has 480 to 800 pixels in training, 800 in tests, as in MoCo's detectors."""

voc_train_pipeline = [
    dict(type='LoadImageFromFile', _scope_='us3l_mm'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomChoiceResize', scales=[(1333, side) for side in range(480, 801, 32)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
voc_test_pipeline = [
    dict(type='LoadImageFromFile', _scope_='us3l_mm'),
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),  # after the resizing: boxes stay those of the file
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
]
# AP is the mean over these thresholds, as on COCO; AP50 and AP75 stand beside it.
voc_iou_thrs = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
