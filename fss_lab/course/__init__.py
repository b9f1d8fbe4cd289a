"""The course as a whole: rules for notebooks, their execution, the student edition, grading and the web site.

Knows notebooks as files; nothing of the method, models and scores, which only the notebooks themselves import.
"""
