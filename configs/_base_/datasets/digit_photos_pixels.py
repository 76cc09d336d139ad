"""Mean and standard deviation of the pixels of ``us3l_mm.DigitPhotos`` at 20 x 20 pixels, RGB."""

data_preprocessor = dict(mean=[67.2, 67.0, 62.9], std=[42.6, 38.4, 40.3], to_rgb=False)
