"""Mean and standard deviation of the pixels of ``us3l_mm.DigitPhotos`` at 20 x 20 pixels, RGB."""

data_preprocessor = dict(mean=[48.0, 47.9, 45.4], std=[38.8, 37.1, 38.2], to_rgb=False)
