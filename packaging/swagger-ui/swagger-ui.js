// Left out: the page at /docs/ does not load it.
