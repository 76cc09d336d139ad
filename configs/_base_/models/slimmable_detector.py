"""What turns a stock detector into one for all widths."""

full_conv = dict(type='us3l_mm.SlimmableConv2d', slim_out=False)  # reads narrow features, gives all channels
slimmable_detector = dict(
    type='us3l_mm.SlimmableDetector',
    sampler=dict(dynamic=False),  # the sandwich rule from the start
    distill=dict(feature=0.1, cls=0.1, box=0.1),
)
model_wrapper_cfg = dict(type='us3l_mm.US3LDistributedDataParallel')
