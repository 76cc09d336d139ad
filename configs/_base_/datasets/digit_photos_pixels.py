"""Mean and standard deviation of the pixels of ``us3l_mm.DigitPhotos`` at 16 x 16 pixels, three equal channels."""

data_preprocessor = dict(mean=[50.0] * 3, std=[40.0] * 3, to_rgb=False)
