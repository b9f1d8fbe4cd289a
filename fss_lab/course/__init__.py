"""The course as a whole: what a notebook must look like, running it, the student edition and the web site."""
