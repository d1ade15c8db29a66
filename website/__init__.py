"""What the documentation site is made of besides the pages of `docs/`: its reference, read off the code.

`hooks.py` is what MkDocs calls; the other modules each return the text of a page.
"""
