"""Mean and standard deviation of the pixels of scikit-learn's digits, three equal channels."""

data_preprocessor = dict(mean=[80.0] * 3, std=[90.0] * 3, to_rgb=False)
