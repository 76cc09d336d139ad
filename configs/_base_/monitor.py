"""Watch every width in training, without labels, which suits ImageNet: a few thousand images show little of its classes."""

custom_hooks = [dict(type='us3l_mm.MonitorHook', interval=10, num_images=1000)]
