"""The charts: each is drawn by one class, as SVG for the page and as PNG for files and TensorBoard.

`Dots`, `Lines`, `Histogram` and `Scatter` are the kinds of charts. A file for each subject (training, recovery, ...)
makes charts of what a run measured; `svg` and `png` render them.
"""
