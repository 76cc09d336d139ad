"""One width leaves the house: as a plain model, a stock one, a program; what it costs and which to choose."""
