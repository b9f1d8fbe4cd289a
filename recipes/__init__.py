"""How the shipped toy backbones were made: `python -m recipes.pretrain`, from the root of a clone.

Needs the package; the package does not need it.
"""
