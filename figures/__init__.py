"""Theory and practice side by side: tables for the terminal, pictures for the page.

Functions here turn tidy tables into rich renderables and matplotlib figures.  They never simulate
and never train.
Only ``commands``, which the command line runs, calls what does.
"""
