"""Measurements. Each prints ratios against a reference that ran beside it in the same minute; absolute times of one machine mean little."""
