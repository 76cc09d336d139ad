"""A linear warm-up and the cosine behind it, both changed at each iteration; a schedule adds their lengths in epochs."""

warmup = dict(type='LinearLR', start_factor=1e-4, by_epoch=True, convert_to_iter_based=True)
cosine = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
