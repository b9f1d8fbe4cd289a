"""The toy world: Pictograms, PASCAL-5i in miniature, drawn on the fly from named outlines.

Must know nothing of photographs, networks or the method; of data sets it knows the facts of folds alone.
"""
