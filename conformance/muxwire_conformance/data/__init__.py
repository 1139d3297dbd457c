"""Data files of the judge: the frozen requirement sets."""
