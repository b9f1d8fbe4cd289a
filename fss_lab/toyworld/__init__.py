"""The toy world: Pictograms, PASCAL-5i in miniature, drawn on the fly from named outlines.

Knows episodes and the facts of folds; nothing of photographs, networks or the method.
"""
