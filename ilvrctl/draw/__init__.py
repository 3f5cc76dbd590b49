"""A page in the browser that is drawn on: a thin caller of :func:`ilvrctl.edit`, served to one person."""
