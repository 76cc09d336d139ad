"""Export one width of a model as a dense network; count and measure its costs; choose a width."""
